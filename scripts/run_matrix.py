"""Train the runs that a configuration asks for, one process each, and write their results as they arise.

    run_matrix.py [--config FILE] [--continue | --rerun | --join] [NAME=value ...]

Reads .config, or FILE: a fragment of Kconfig lines, or a matrix in YAML (*.yaml). NAME=value changes a symbol.
Started again with the same configuration it goes on where it stopped: done runs are kept, interrupted ones go
on from their last checkpoint, failed ones are run again.

    --continue   go on with the newest results folder; only the number of epochs may have grown
    --rerun      start a fresh results folder, even if the newest one has these runs
    --join       train what other runners of these runs have not begun, here or on other machines; the first makes
                 the results folder. It ends when nothing is left to begin

Exit code: 0 all runs done (or, with --join, in hand elsewhere); 1 at least one failed; 2 nothing could be started;
130, 143 interrupted, resumable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.config.command import run_command
from lib.runner.request import request_from_args
from lib.runner.runner import train


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="FILE")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--continue", dest="resume", action="store_true")
    which.add_argument("--rerun", action="store_true")
    which.add_argument("--join", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="NAME=value")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    return run_command(lambda: train(request_from_args(arguments))[1])


if __name__ == "__main__":
    sys.exit(main())
