"""Tables of a results folder.

    results.py summary [DIR]    print the table, write summary.csv and summary.md into DIR (default: newest)
    results.py compare A B      what changed from results folder A to B

Accuracy is that of the last epoch on the test set, as mean ± sample standard deviation over the n runs that
differ in their seed only. The best epoch is listed beside it; it is picked on the test set, so it flatters.
Runs that failed, diverged or did not finish are listed with their reason and stay out of every mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.command import FAILED, run_command
from lib.config.errors import CommandError
from lib.results.compare import compare
from lib.results.load import find
from lib.results.summary import summary


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("summary", help="print and write the table of one results folder")
    one.add_argument("dir", nargs="?", help="a results folder, or its name under --root (default: the newest)")
    two = commands.add_parser("compare", help="what changed from A to B")
    two.add_argument("a")
    two.add_argument("b")
    for command in (one, two):
        command.add_argument("--root", type=Path, default=Path("results"), help="where results folders lie")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)

    def command() -> int:
        if arguments.command == "summary":
            return summary(find(arguments.dir, arguments.root))
        if not (arguments.a and arguments.b):
            raise CommandError("compare takes two results folders: make compare A=results/x B=results/y")
        return compare(find(arguments.a, arguments.root), find(arguments.b, arguments.root))

    return run_command(command, FAILED)


if __name__ == "__main__":
    sys.exit(main())
