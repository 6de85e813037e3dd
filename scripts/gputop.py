#!/usr/bin/env python3
"""Watch GPUs, and record what one process and its children use.

  gputop.py --pid 4711 --output gpu.jsonl --interval 1     record a run; ends by itself with the process

Memory is in MiB (2^20 bytes). What a device does not tell is left out: a gap, never a zero.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.gpu import Gpu, find, named, visible
from scripts.gpu.host import Host, Watched
from scripts.gpu.record import LineFile, Sampler, as_line, moments


def positive(text: str) -> float:
    """A number of seconds above zero; argparse reports the ValueError."""
    value = float(text)
    if not 0.0 < value < 86400.0:
        raise ValueError(text)
    return value


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, read; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(
        prog="gputop.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pid", type=int, help="watch this process and its children; end when it does")
    parser.add_argument("--output", type=Path, metavar="FILE", help="append the samples to this file")
    parser.add_argument("--interval", type=positive, default=1.0, metavar="S", help="seconds between samples")
    parser.add_argument(
        "--phase-file", type=Path, metavar="FILE", help="file that holds the name of the phase"
    )
    parser.add_argument("--gpu", metavar="N", help="only this device: index as nvidia-smi counts, or UUID")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many samples")
    return parser.parse_args(argv)


def chosen(gpus: list[Gpu], wanted: str | None) -> list[Gpu]:
    """The devices to sample: the one asked for, else those the environment leaves visible."""
    if wanted is None:
        return visible(gpus, os.environ)
    gpu = named(gpus, wanted)
    return [gpu] if gpu is not None else []


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = arguments(argv)
    host = Host()
    watched = Watched(args.pid, host) if args.pid is not None else None
    sampler = Sampler(chosen(find(), args.gpu), host, args.pid, args.phase_file)
    file = LineFile(args.output) if args.output else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for _ in moments(args.interval, args.count, watched):
            for record in sampler.take():
                file.write(as_line(record)) if file else print(as_line(record), flush=True)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
