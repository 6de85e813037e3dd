"""Write the pictures of results into their folder and, for everybody to see, into images/."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import plots
from ..plots import run_selection
from ..results import plot_data
from ..results.load import load
from ..results.memory_estimates import with_predictions
from ..results.records import Results
from ..results.text_table import print_sentences
from ..storage.project import ROOT
from ..storage.terminal import visible
from .picture_folder import replace_pictures

DATA = "data.json"
OF_MEMORY = ("gpu_memory_comparison.png", "memory_by_category.png", "memory_vs_accuracy_scatter.png")
#: What may be typed beside a preset without changing what it trains.
HARMLESS = {
    "RESULTS_DIR", "DATA_DIR", "DEVICE", "DOWNLOAD", "JOBS", "SEEDS", "MONITOR", "MONITOR_INTERVAL", "TENSORBOARD",
}  # fmt: skip


def draw(results: Results) -> tuple[dict[str, bytes | None], list[str]]:
    """Return file names and contents of one model's pictures (None: nothing to draw), and what could not be shown."""
    files: dict[str, bytes | None] = {}
    messages: dict[str, None] = {}
    for picture in plots.draw(results):
        files[f"{picture.name}.png"] = picture.png() if picture.figure else None
        messages.update(dict.fromkeys(picture.missing if picture.figure else [f"{picture.name}: {picture.missing[0]}"]))
    return files, list(messages)


def to_publish(files: dict[str, bytes | None], results: Results) -> dict[str, bytes | None]:
    """Return what is published: of a study its own picture, and those of memory if its variants change that.

    The others show what the main comparison shows.
    """
    if not results.is_study:
        return files
    changed = any(run.variant for run in run_selection.with_memory_variants(results)[0].runs)
    shown = {"variants.png", *(OF_MEMORY if changed else ())}
    return {name: content if name in shown else None for name, content in files.items()}


def published(data: Path) -> Results | None:
    """Return the results whose pictures lie beside a data file; None where there is none, or none that can be read."""
    try:
        return plot_data.from_text(data.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def why_not_published(results: Results, data: Path) -> str | None:
    """Return the reason why these results take nobody's place in images/ unless that is asked for; None if they may.

    What goes there by itself is a preset's full run: the preset unchanged, nothing typed that changes what is trained,
    all of its runs done, and not fewer of them than are published.
    """
    chosen = results.chosen_by or f"defconfig-{results.preset}"
    if not (ROOT / "defconfigs" / chosen.removeprefix("defconfig-")).is_file():
        return "they were not made from a preset as it is"
    changed = [name for name in results.overrides if name not in HARMLESS and not name.endswith("_THREADS")]
    if changed:
        return f"{', '.join(changed)} changed the preset"
    complete = {run.name for run in results.runs if run.is_complete}
    if not complete or not complete.issuperset(results.planned):
        return "not all of its runs are done"
    before = published(data)
    if before is not None and len(before.runs) > len(results.runs):
        return f"there are {before.preset}'s, of {len(before.runs)} runs"
    return None


def replaced(data: Path, now: Results) -> str | None:
    """Return a sentence where other, or more, results were published until now than are to be."""
    before = published(data)
    if before is None:
        return None
    if before.preset == now.preset and len(before.runs) <= len(now.runs):
        return None
    return (
        f"The pictures in {data.parent} were of {before.preset}, {len(before.runs)} runs; now they are of "
        f"{now.preset}, {len(now.runs)}. `git checkout {data.parent}` brings back what was committed."
    )


def from_results(path: Path, images: Path | None, publish: bool = False) -> int:
    """Draw a results folder into its graphs/ and, where they may stand there, into images/; return the exit code.

    Args:
        path: the results folder.
        images: the folder of published pictures; None leaves it alone.
        publish: whether to put the pictures there even if they are not those of a preset's full run.
    """
    results = load(path)
    if not results.runs:
        print(f"{path}: no runs in this folder", file=sys.stderr)
        return 1
    results = with_predictions(results)
    for model in results.models:
        small = plot_data.shrink(results.of_model(model))
        files, messages = draw(small)
        graphs = ["graphs", model] if len(results.models) > 1 else ["graphs"]
        print(f"{model}: {replace_pictures(path, graphs, files)} pictures in {path.joinpath(*graphs)}")
        if images:
            below = [model, results.preset] if results.is_study else [model]
            messages[:0] = _publish(files, small, images, below, path, publish)
        print_sentences(messages, "  ")
    return 0


def _publish(
    files: dict[str, bytes | None], results: Results, images: Path, below: Sequence[str], source: Path, asked: bool
) -> list[str]:
    """Put the pictures of one model `below` images/, or say why not; return the sentences about what they replace."""
    model, target = results.models[0], images.joinpath(*below)
    if not any(run.is_complete for run in results.runs):
        print(f"{model}: no run is done, so the pictures in {target} are left as they are")
        return []
    if not asked and (reason := why_not_published(results, target / DATA)):
        print(f"{model}: not published in {target}: {visible(reason)}")
        print(f"  `make update-graphs DIR={shlex.quote(str(source))} PUBLISH=y` publishes these pictures there")
        return []
    shared = plot_data.for_others(results)
    if shared != results:  # the recipe under the pictures is another
        files, results = draw(shared)[0], shared
    sentence = replaced(target / DATA, results)
    images.mkdir(parents=True, exist_ok=True)
    data = plot_data.to_text(results).encode()
    count = replace_pictures(images, below, to_publish(files, results), {DATA: data})
    print(f"{model}: {count} pictures in {target}, and {DATA}, which they were drawn from")
    return [sentence] if sentence else []


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
        files, messages = draw(results)
        below = source.parent.relative_to(images)
        count = replace_pictures(images, below.parts, to_publish(files, results))
        print(f"{below}: {count} pictures redrawn from {source}")
        print_sentences(messages, "  ")
    return 0
