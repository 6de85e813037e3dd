"""Draw the pictures of a results folder.

    update_graphs.py [DIR]                draw DIR (default: the newest) into DIR/graphs; those of a preset's full run
                                          into images/<model>/ too
    update_graphs.py --publish y [DIR]    into images/<model>/ whatever the results were made from
                                          with no results at all: redraw images/ from its own data files

A study, a matrix with variants or of a preset `*-study-*`, has images/<model>/<preset>/ to itself: the picture of
its configurations, and where a variant changes memory the main pictures of that.

images/<model>/data.json is what the pictures beside it were drawn from. The pictures of a model are replaced
whole or left alone: all are drawn before the first is written, and none is written without a finished run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.command import FAILED, run_command
from lib.report.publish import from_images, from_results
from lib.results.load import find, newest


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?", help="a results folder, or its name under --root (default: the newest)")
    parser.add_argument("--root", type=Path, default=Path("results"), help="where results folders lie")
    parser.add_argument("--images", type=Path, default=Path("images"), help="where the published pictures lie")
    parser.add_argument(
        "--publish", choices=("y", "n"), default="n", help="y: into images/ whatever they were made from"
    )
    parser.add_argument("--only-results", action="store_true", help="draw into DIR/graphs and leave images/ alone")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.dir is None and newest(arguments.root) is None and not arguments.only_results:
        return from_images(arguments.images)
    images = None if arguments.only_results else arguments.images
    return run_command(
        lambda: from_results(find(arguments.dir, arguments.root), images, arguments.publish == "y"), FAILED
    )


if __name__ == "__main__":
    sys.exit(main())
