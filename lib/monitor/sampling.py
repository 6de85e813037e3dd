"""Take samples: one record per device and moment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..storage.terminal import visible
from .devices import Gpu, label
from .host import Host, Watched, read_text

#: Set by the matrix runner: how many runs may be going at a time, this one included.
JOBS = "ADAMWPRUNE_JOBS"


class Ownership:
    """Tell which of a device's processes belong to the watched tree.

    Process numbers that are in the tree do. In a container the driver may report the machine's numbers, which
    mean nothing here. The watcher starts with the run, before the run touches the device; so the first single process
    that appears on the device after that is the run's, and stays so. Where several appear at once nothing is known;
    nor where other runs start beside this one.

    Args:
        in_container: whether process numbers here are those of a container.
        alone: whether no other run starts at the same time.
    """

    def __init__(self, in_container: bool, alone: bool = True) -> None:
        self.guesses = in_container and alone
        self.at_start: set[int] | None = None
        self.foreign: int | None = None

    def mib(self, processes: dict[int, float | None], tree: set[int]) -> float | None:
        """Return MiB of device memory that the tree holds, or None when that cannot be told."""
        if self.at_start is None:
            self.at_start = set(processes)
        owned = {pid for pid in processes if pid in tree}
        if not owned and self.guesses:
            new = set(processes) - self.at_start
            if self.foreign is None and len(new) == 1:
                self.foreign = new.pop()
            owned = {self.foreign} & set(processes) if self.foreign is not None else set()
        sizes = [processes[pid] for pid in owned]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None


class Sampler:
    """Takes samples of some devices and, when `pid` is given, of the process tree below it."""

    def __init__(self, gpus: list[Gpu], host: Host, pid: int | None = None, phase_file: Path | None = None) -> None:
        self.gpus, self.host, self.pid, self.phase_file = gpus, host, pid, phase_file
        alone = os.environ.get(JOBS, "1") == "1"
        self.owners = {id(gpu): Ownership(host.in_container(), alone) for gpu in gpus}

    def take(self) -> list[dict[str, Any]]:
        """Return one record per device; one with `gpu` None where there is none. What is not known is absent."""
        common: dict[str, Any] = {"time": round(time.time(), 3)}
        phase = visible((read_text(self.phase_file) or "").strip()) if self.phase_file else ""
        if phase:
            common["phase"] = phase
        host: dict[str, Any] = {}
        tree: set[int] = set()
        if self.pid is None:
            host = self.host.memory_mib()
        else:
            tree = set(self.host.tree(self.pid))
            host["host_rss_mib"] = self.host.tree_rss_mib(self.pid)
        among = None if self.pid is None else tree
        records = []
        for gpu in self.gpus:
            readings: dict[str, Any] = {"gpu": label(gpu, self.gpus)}
            # One vendor's trouble must not cost the others' sample, nor the recording.
            with contextlib.suppress(Exception):
                readings |= gpu.read(among)
            if self.pid is not None:
                with contextlib.suppress(Exception):
                    readings["process_mib"] = self.owners[id(gpu)].mib(gpu.processes(tree), tree)
            records.append(tidy(common | readings | host))
        return records or [tidy(common | {"gpu": None} | host)]


def tidy(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record without what is not known (only `gpu` may be None: there is none), floats rounded to 0.01."""
    return {
        key: round(value, 2) if isinstance(value, float) and key != "time" else value
        for key, value in record.items()
        if value is not None or key == "gpu"
    }


def moments(interval: float, count: int | None, watched: Watched | None) -> Iterator[None]:
    """Yield at every multiple of `interval` seconds, `count` times or as long as the watched process lives.

    A moment that was missed is left out, not made up for.
    """
    start, taken = time.monotonic(), 0
    while (count is None or taken < count) and (watched is None or watched.wait(0.0)):
        yield
        taken += 1
        if count is not None and taken >= count:
            return
        now = time.monotonic()
        pause = interval - (now - start) % interval
        if watched is None:
            time.sleep(pause)
        elif not watched.wait(pause):
            return
