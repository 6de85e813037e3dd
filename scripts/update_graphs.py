"""Draw the pictures of a results folder.

    update_graphs.py [DIR]     draw DIR (default: the newest) into DIR/graphs and images/<model>/
                               with no results at all: redraw images/ from its own data files

A study, a matrix with variants or of a preset `*-study-*`, has images/<model>/<preset>/ to itself: the picture of
its configurations, and where a variant changes memory the main pictures of that.

images/<model>/data.json is what the pictures beside it were drawn from. The pictures of a model are replaced
whole or left alone: all are drawn before the first is written, and none is written without a finished run.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.results import plot_data
from lib.results.load import find, load, newest
from lib.results.memory_estimates import with_predictions
from lib.results.records import Results
from lib.storage.files import replacing

DATA = "data.json"
OF_MEMORY = ("gpu_memory_comparison.png", "memory_by_category.png", "memory_vs_accuracy_scatter.png")
PER_OPTIMIZER = re.compile(r"\w+_(model_comparison|accuracy_evolution)\.png")


def draw(results: Results) -> tuple[dict[str, bytes | None], list[str]]:
    """File names and contents of one model's pictures (None: nothing to draw), and what could not be shown."""
    from lib import plots

    files: dict[str, bytes | None] = {}
    told: dict[str, None] = {}
    for picture in plots.draw(results):
        files[f"{picture.name}.png"] = picture.png() if picture.figure else None
        told.update(dict.fromkeys(picture.missing if picture.figure else [f"{picture.name}: {picture.missing[0]}"]))
    return files, list(told)


def replace_pictures(folder: Path, files: dict[str, bytes | None], beside: dict[str, bytes] | None = None) -> int:
    """Write the pictures, and what lies `beside` them, and remove our older ones that are not drawn any more."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: content for name, content in files.items() if content is not None}
    with contextlib.ExitStack() as all_or_none:
        for name, content in (drawn | (beside or {})).items():
            file = all_or_none.enter_context(replacing(folder / name, durable=False))
            file.write(content)
            file.flush()
    for path in folder.glob("*.png"):
        if path.name not in drawn and (path.name in files or PER_OPTIMIZER.fullmatch(path.name)):
            path.unlink()
    return len(drawn)


def to_publish(files: dict[str, bytes | None], results: Results) -> dict[str, bytes | None]:
    """Of a study the picture of its configurations, and the main ones of memory if its variants change that.

    The others show what the main comparison shows.
    """
    if not results.study:
        return files
    from lib.plots import run_selection

    changed = any(run.variant for run in run_selection.of_memory(results)[0].runs)
    shown = {"variants.png", *(OF_MEMORY if changed else ())}
    return {name: content if name in shown else None for name, content in files.items()}


def replaced(data: Path, now: Results) -> str | None:
    """A sentence where other, or more, results were published until now than are to be."""
    try:
        before = plot_data.from_text(data.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fewer = len(before.runs) > len(now.runs)
    if before.preset == now.preset and not fewer:
        return None
    return (
        f"The pictures in {data.parent} were of {before.preset}, {len(before.runs)} runs; now they are of "
        f"{now.preset}, {len(now.runs)}. `git checkout {data.parent}` brings back what was committed."
    )


def from_results(path: Path, images: Path | None) -> int:
    """Draw a results folder; returns the exit code."""
    results = load(path)
    if not results.runs:
        print(f"{path}: no runs in this folder", file=sys.stderr)
        return 1
    results = with_predictions(results)
    study = results.study
    for model in results.models:
        small = plot_data.shrink(results.of_model(model))
        files, told = draw(small)
        graphs = path / "graphs" / model if len(results.models) > 1 else path / "graphs"
        print(f"{model}: {replace_pictures(graphs, files)} pictures in {graphs}")
        if images and any(run.counted for run in small.runs):
            published = images / model / results.preset if study else images / model
            if sentence := replaced(published / DATA, small):
                told.insert(0, sentence)
            count = replace_pictures(published, to_publish(files, small), {DATA: plot_data.to_text(small).encode()})
            print(f"{model}: {count} pictures in {published}, and {DATA}, which they were drawn from")
        elif images:
            print(f"{model}: no run is done, so the pictures in {images} are left as they are")
        for sentence in told:
            print(f"  {sentence}")
    return 0


def from_images(images: Path) -> int:
    """Redraw images/<model>/ from the data files there; returns the exit code."""
    sources = sorted(images.glob(f"**/{DATA}"))
    if not sources:
        print(f"no results and no {images}/<model>/{DATA}: run `make` first", file=sys.stderr)
        return 2
    for source in sources:
        try:
            results = plot_data.from_text(source.read_text())
        except (ValueError, KeyError, TypeError) as error:
            print(f"{source}: not a data file of pictures ({error})", file=sys.stderr)
            return 1
        files, told = draw(results)
        count = replace_pictures(source.parent, to_publish(files, results))
        print(f"{source.parent.relative_to(images)}: {count} pictures redrawn from {source}")
        for sentence in told:
            print(f"  {sentence}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("dir", nargs="?", help="a results folder, or its name under --root (default: the newest)")
    parser.add_argument("--root", type=Path, default=Path("results"), help="where results folders lie")
    parser.add_argument("--images", type=Path, default=Path("images"), help="where the published pictures lie")
    parser.add_argument("--only-results", action="store_true", help="draw into DIR/graphs and leave images/ alone")
    arguments = parser.parse_args(argv)
    if arguments.dir is None and newest(arguments.root) is None and not arguments.only_results:
        return from_images(arguments.images)
    try:
        folder = find(arguments.dir, arguments.root)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        return from_results(folder, None if arguments.only_results else arguments.images)
    except OSError as error:  # the disk is full, or not ours to write
        print(f"{error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
