#!/usr/bin/env python3
"""Measure speed as ratios taken in turn within one process, and write results/bench-<date>.json and .png.

usage: bench.py [--compare OLD.json] [--rounds N] [--device cpu|cuda] [PART ...]

PART is `optimizer`, `training`, `loop`, `precision`, `start` or `growth`; all by default. A ratio is the time over that
of the first alternative: below 1 is faster.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.results.text_table import print_table
from lib.storage.files import write_atomic

#: What can be measured, and the module of scripts/benchmarks that does it.
PARTS = {
    "optimizer": "optimizer",
    "training": "training",
    "loop": "training_loop",
    "precision": "precision",
    "start": "startup",
    "growth": "scaling",
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, metavar="OLD.json")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("parts", nargs="*", metavar="PART")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: at least 1 is expected")
    try:
        old = json.loads(arguments.compare.read_text()) if arguments.compare else None
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {arguments.compare}: {error}")
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    result = measure(arguments.parts or list(PARTS), arguments.rounds, arguments.device)
    path = ROOT / "results" / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    from lib.plots import scaling

    scaling.draw(result, str(path.with_suffix(".png")))
    show(result, old)
    print(f"\nwritten to {path.relative_to(ROOT)}")
    return 0


def measure(parts: list[str], rounds: int, wanted: str | None) -> dict:
    import torch

    device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {threads} threads"
    rows = []
    for part in parts:
        rows += importlib.import_module(f"scripts.benchmarks.{PARTS[part]}").measure(device, rounds)
        torch.set_num_threads(threads)  # a run sets its own
    return {
        "device": name,
        "torch": torch.__version__,
        "rounds": rounds,
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def show(result: dict, old: dict | None) -> None:
    """A table; with older figures beside them where the same was measured then."""
    before = {(row["part"], row["name"]): row["ratio"] for row in (old or {}).get("rows", [])}
    print(
        f"{result['device']}, torch {result['torch']}, {result['rounds']} rounds; ratio = time over that of the first"
    )
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
    sys.exit(main(sys.argv[1:]))
