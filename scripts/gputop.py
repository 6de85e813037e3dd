#!/usr/bin/env python3
"""Watch GPUs: who uses how much memory, how busy, how hot, and record it beside a run.

  gputop.py                                    live table of every GPU and its processes; Ctrl-C ends
  gputop.py --once [--json | --csv]            the same, once
  gputop.py --pid 4711 --output gpu.jsonl      record a process and its children; ends by itself with it
  gputop.py --summary gpu.jsonl                mean, peak and percentiles, by phase
  gputop.py --compare a.jsonl b.jsonl          two recordings side by side
  gputop.py --plot gpu.jsonl --output a.png    a recording as a picture

NVIDIA is read through NVML, AMD and Intel through the kernel's files. Without a GPU the host's memory is shown.
Memory is in MiB (2^20 bytes). What a device does not tell is left out: a gap, never a zero. The devices shown
are those that CUDA_VISIBLE_DEVICES (or its AMD or Intel counterpart) leaves visible; --gpu names another. 0:1 is
the MIG part 1 of device 0; the vendor stands before a number that two vendors' devices share, as in intel:0.
Recordings, JSON or with --csv CSV, are read back in either form; of more than 200,000 samples every n-th. Their
`training` is all but start-up and evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.config.command import run_command
from lib.config.errors import CommandError
from lib.monitor.watch import Options, watch
from lib.storage.terminal import visible

#: Options that leave most others nothing to do, and those that they go with.
ALONE = {
    "summary": {"json"},
    "compare": {"json"},
    "plot": {"output"},
    "once": {"json", "csv", "pid", "output", "phase_file", "gpu", "root"},
}


def main(argv: list[str] | None = None, nvml: Any = None) -> int:
    """Run the tool and return the exit code; `nvml` may stand in for the NVIDIA driver."""
    args = parse(argv)
    return run_command(lambda: gputop(args, nvml))


def gputop(args: argparse.Namespace, nvml: Any) -> int:
    """Show or record what happens now, or read recordings back."""
    check_folders(args)
    if args.summary or args.compare or args.plot:
        return read_back(args)
    return watch(Options(**{field.name: getattr(args, field.name) for field in fields(Options)}), nvml)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with code 2."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="gputop.py", description=__doc__, formatter_class=formatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--summary", type=Path, metavar="FILE", help="summarise a recording")
    what.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="compare two recordings")
    what.add_argument("--plot", type=Path, metavar="FILE", help="draw a recording")
    parser.add_argument("--once", action="store_true", help="show once and end")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON instead of tables")
    form.add_argument("--csv", action="store_true", help="comma-separated samples instead of tables")
    parser.add_argument("--pid", type=int, help="watch this process and its children; end when it does")
    parser.add_argument("--output", type=Path, metavar="FILE", help="append samples here, or write the picture")
    parser.add_argument("--interval", type=positive, default=1.0, metavar="S", help="seconds between samples")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many samples")
    parser.add_argument("--phase-file", type=Path, metavar="FILE", help="file that holds the name of the phase")
    parser.add_argument("--gpu", metavar="N", help="only this device: number in the first column, or UUID")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read a recorded /sys, /proc")
    args = parser.parse_args(argv)
    if args.count is not None and args.count < 1:
        parser.error("--count must be at least 1")
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    for option in given & ALONE.keys():
        if useless := sorted(given - ALONE[option] - {option}):
            parser.error(f"--{option} does not go with --{useless[0].replace('_', '-')}")
    if args.phase_file and not (args.output or args.csv):
        parser.error("--phase-file is for recordings: give --output or --csv too")
    return args


def check_folders(args: argparse.Namespace) -> None:
    """Raise CommandError unless the folders that are named are there."""
    if not args.root.is_dir():
        raise CommandError(f"gputop: --root {args.root}: there is no such folder")
    if args.output and not args.output.parent.is_dir():
        raise CommandError(f"gputop: {args.output}: there is no folder {args.output.parent}")


def positive(text: str) -> float:
    """Return a number of seconds above zero and below a day; argparse reports the ValueError."""
    value = float(text)
    if not 0.0 < value < 86400.0:
        raise ValueError(text)
    return value


def read_back(args: argparse.Namespace) -> int:
    """Summarise, compare or draw recordings."""
    from lib.monitor import recording, summary

    paths = args.compare or [args.summary or args.plot]
    loaded = [recording.load(path) for path in paths]
    if args.plot:
        from lib.plots.recording import draw

        if not loaded[0][0]:
            raise OSError(f"{args.plot}: no samples to draw")
        picture = args.output or args.plot.with_suffix(".png")
        draw(loaded[0][0], picture, str(args.plot))
        print(visible(str(picture)))
        return 0
    summaries = [summary.summarize(*samples) for samples in loaded]
    result: Any = summary.compare(*summaries) if args.compare else summaries[0]
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    from rich.console import Console

    from lib.monitor.screen import comparison_table, summary_tables

    a, *rest = [str(path) for path in paths]
    Console().print(comparison_table(result, a, rest[0]) if args.compare else summary_tables(result, a))
    return 0


if __name__ == "__main__":
    sys.exit(main())
