"""Watch devices and processes: on the screen, as JSON, or into a recording.

`python -m lib.monitor.watch --pid 4711 --output gpu.jsonl` is the recorder that process.py starts beside a run. It has
to start in about a tenth of a second: nothing here imports torch, and only what draws a screen imports rich.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage import terminal
from .devices import Gpu
from .discovery import find, hidden, listed, named, visible
from .host import Host, Watched
from .recording import COLUMNS, LineFile, as_csv, as_line
from .sampling import Sampler, moments


@dataclass(frozen=True)
class Options:
    """What to watch and how to show it.

    Attributes:
        pid: watch this process and its children, and end when it does; None watches the whole machine.
        gpu: watch only this device; None watches those that the environment leaves visible.
        root: folder with a recorded /sys and /proc, or "/" for this machine.
        once: show one moment, with readings that are differences measured over 0.2 s.
        count: end after so many moments; None goes on.
        interval: seconds between two moments.
        json, csv: form of what is shown instead of tables.
        output: file that samples are appended to.
        phase_file: file that holds the name of the current phase of the run.
    """

    pid: int | None = None
    gpu: str | None = None
    root: Path = Path("/")
    once: bool = False
    count: int | None = None
    interval: float = 1.0
    json: bool = False
    csv: bool = False
    output: Path | None = None
    phase_file: Path | None = None


def watch(options: Options, nvml: Any = None) -> int:
    """Show or record what happens now, and return the exit code; `nvml` may stand in for the NVIDIA driver."""
    host = Host(options.root)
    notes: list[str] = []
    watched = Watched(options.pid, host) if options.pid is not None else None
    if watched and watched.gone:
        print(f"gputop: there is no process {options.pid}", file=sys.stderr)
        # A run may be shorter than the start of its recording, which is then empty and no failure.
        if not options.output:
            return 2
    # What a run is about to use may be woken; a look at the machine wakes nothing.
    devices = find(options.root, nvml, notes, wake=options.pid is not None or options.gpu is not None)
    gpus = visible(devices, os.environ)
    if options.gpu is not None:
        chosen = named(devices, options.gpu)
        if chosen is None:
            message = f"gputop: no GPU {options.gpu}; there are: {listed(devices)}"
            print(terminal.visible(message), file=sys.stderr)
            # A run that is to be recorded still has host memory worth recording.
            if not options.output:
                return 2
        gpus = [chosen] if chosen is not None else []
    elif hint := hidden(devices, os.environ):
        notes.append(hint)
    if options.once and any(gpu.differs for gpu in gpus):
        first_readings(gpus, host, options.pid)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ticks = moments(options.interval, 1 if options.once else options.count, watched)
    if options.output or options.csv:
        return record(options, Sampler(gpus, host, options.pid, options.phase_file), ticks)
    if options.json:
        return show_json(options, gpus, host, notes, ticks)
    return show(options, gpus, host, notes, ticks)


def first_readings(gpus: list[Gpu], host: Host, pid: int | None) -> None:
    """Read once and wait a moment, so that readings which are differences are there the first time they are shown."""
    among = None if pid is None else set(host.tree(pid))
    for gpu in gpus:
        if gpu.differs:
            with suppress(Exception):
                gpu.read(among)
    time.sleep(0.2)


def record(options: Options, sampler: Sampler, ticks: Iterable[None]) -> int:
    """Write samples to a file, or CSV to stdout."""
    file = LineFile(options.output) if options.output else None
    write: Callable[[str], Any] = file.write if file else lambda line: print(line, flush=True)
    if options.csv and (file is None or file.empty):
        write(",".join(COLUMNS))
    for _ in ticks:
        for sample in sampler.take():
            write(as_csv(sample) if options.csv else as_line(sample))
    return 0


def show_json(options: Options, gpus: list[Gpu], host: Host, notes: list[str], ticks: Iterable[None]) -> int:
    """Print one JSON object for each moment."""
    from .snapshot import snapshot

    for _ in ticks:
        seen = snapshot(gpus, host, options.pid) | ({"notes": notes} if notes else {})
        print(json.dumps(seen, indent=2 if options.once else None), flush=True)
    return 0


def show(options: Options, gpus: list[Gpu], host: Host, notes: list[str], ticks: Iterable[None]) -> int:
    """Show tables: live on a terminal, otherwise once."""
    from rich.console import Console
    from rich.live import Live

    from .screen import History, page
    from .snapshot import snapshot

    console, history = Console(), History()
    if options.once or not console.is_terminal:
        console.print(page(snapshot(gpus, host, options.pid), history, notes, options.pid, console.width))
        return 0
    # Ctrl-C is how a live table is meant to end
    with Live(console=console, screen=True, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        for _ in ticks:
            seen = snapshot(gpus, host, options.pid)
            shown = page(seen, history, notes, options.pid, console.width, console.height, options.interval)
            live.update(shown, refresh=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Record a process until it ends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--phase-file", type=Path)
    return watch(Options(**vars(parser.parse_args(argv))))


if __name__ == "__main__":
    sys.exit(main())
