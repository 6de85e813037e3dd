"""One self-contained page about a results folder.

    report.py [DIR]     write DIR/report.html (default: the newest results folder)

The page opens offline and holds everything: configuration, machine, the table of results (sortable), all pictures,
and for each run its settings, the end of its log, why it failed if it did, and the command that repeats it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.command import DONE, FAILED, run_command
from lib.report.html import write_report
from lib.results.load import find


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?", help="a results folder, or its name under --root (default: the newest)")
    parser.add_argument("--root", type=Path, default=Path("results"), help="where results folders lie")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)

    def command() -> int:
        print(write_report(find(arguments.dir, arguments.root)))
        return DONE

    return run_command(command, FAILED)


if __name__ == "__main__":
    sys.exit(main())
