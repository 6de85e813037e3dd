#!/usr/bin/env python3
"""Measure speed as ratios taken in turn within one process, and write results/bench-<date>.json and .png.

usage: bench.py [--compare OLD.json] [--rounds N] [--device cpu|cuda] [PART ...]

PART is `optimizer`, `training`, `loop`, `precision`, `start` or `growth`; all by default. A ratio is the time over that
of the first alternative: below 1 is faster. The file grows with each comparison: Ctrl-C keeps what was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.command import INTERRUPTED, run_command
from lib.config.errors import CommandError
from lib.results.text_table import print_table
from scripts.benchmarks import PARTS


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_command(lambda: bench(args))


def bench(args: argparse.Namespace) -> int:
    """Measure and show the parts that are asked for; return the exit code."""
    old = read(args.compare) if args.compare else None
    import torch

    from lib.plots import scaling
    from scripts.benchmarks.session import Session

    if args.device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device cuda: torch sees no GPU")
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    session = Session(ROOT / "results" / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json", device, args.rounds)
    finished = session.measure(args.parts or PARTS)
    if session.result["rows"]:
        scaling.draw(session.result, str(session.path.with_suffix(".png")))
        show(session.result, old)
        print(f"\n{'written to' if finished else 'interrupted; kept in'} {session.path.relative_to(ROOT)}")
    else:
        print("interrupted before anything was measured", file=sys.stderr)
    return 0 if finished else INTERRUPTED


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, metavar="OLD.json")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("parts", nargs="*", metavar="PART")
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: at least 1 is expected")
    return args


def read(path: Path) -> dict[str, Any]:
    """Read the file of an earlier call."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {path}: {error}") from None
    if not isinstance(result, dict) or not isinstance(result.get("rows"), list):
        raise CommandError(f"{path} is no file of this command")
    return result


def show(result: dict[str, Any], old: dict[str, Any] | None) -> None:
    """Print a table; with the older ratios beside the new ones where the same was measured then."""
    print(
        f"{result['device']}, torch {result['torch']}, {result['rounds']} rounds; ratio = time over that of the first"
    )
    before = {(row.get("part"), row.get("name")): row.get("ratio") for row in (old or {}).get("rows", [])}
    headings = ["what", "alternative", "ms", "ratio", "least", "greatest", "images/s"]
    headings += ["ratio before"] if old else []
    rows = []
    for row in result["rows"]:
        cells = [row["part"], row["name"], f"{row['milliseconds']:.2f}"]
        cells += [f"{row[key]:.2f}" for key in ("ratio", "lowest", "highest")]
        cells.append(f"{1000 * row['images'] / row['milliseconds']:,.0f}" if row["images"] else "")
        if old:
            ratio = before.get((row["part"], row["name"]))
            cells.append("–" if ratio is None else f"{ratio:.2f}")
        rows.append(cells)
    print_table(headings, rows, {0, 1})


if __name__ == "__main__":
    sys.exit(main())
