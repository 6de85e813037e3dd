"""Draw how cost grows with the size of a task, from a file that bench.py wrote.

usage: python -m lib.plots.scaling FILE.json    draw FILE.png again
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from . import style

#: How the parts of each panel are named, before and after their own name; its title; the label of its axis.
EPOCHS = (
    ("epoch of ", ": batch", "Training epoch by batch size", "images per batch"),
    ("epoch of ", ": images", "Training epoch by images", "training images"),
    ("epoch of ", ": width", "Training epoch by width", "channels of the first stage"),
)
TABLES = ("", " of a matrix: runs", "Table, pictures and report", "runs in the matrix")

Parts = dict[str, list[tuple[float, float]]]


def draw(result: dict[str, Any], path: str) -> bool:
    """Draw time against size into `path`; False where the file holds nothing of the part `growth`."""
    parts: Parts = {}
    for row in result["rows"]:
        if (size := row["name"].replace(",", "")).isdigit():
            parts.setdefault(row["part"], []).append((float(size), row["milliseconds"] / 1000))
    if not parts:
        return False
    with style.plot_style():
        figure = Figure(figsize=(13, 4.2), dpi=style.DPI, layout="constrained")
        figure.suptitle(f"How cost grows · {result['device']} · torch {result['torch']}", x=0.01, ha="left")
        *epochs, tables = figure.subplots(1, len(EPOCHS) + 1)
        for ax, panel in zip((*epochs, tables), (*EPOCHS, TABLES), strict=True):
            _draw_panel(ax, parts, *panel)
        for ax in epochs[1:]:  # a second is as long in each of them
            ax.sharey(epochs[0])
        epochs[0].autoscale_view()
        for ax in (epochs[0], tables):
            ax.set_ylabel("seconds (log)")
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return True


def _draw_panel(ax: Axes, parts: Parts, before: str, after: str, title: str, label: str) -> None:
    """Draw one quantity on its own axis, with ticks at the sizes that were measured."""
    shown = {name: points for name, points in parts.items() if name.startswith(before) and name.endswith(after)}
    names = [name.removeprefix(before).removesuffix(after) for name in shown]
    for name, points in zip(names, shown.values(), strict=True):
        ax.plot(*zip(*points, strict=True), marker="o", label=name)
    ax.set_title("\n".join([title, *names]) if len(names) == 1 else title)
    if len(names) > 1:
        ax.legend()
    ax.set(xscale="log", yscale="log", xlabel=f"{label} (log)")
    sizes = sorted({size for points in shown.values() for size, _ in points})
    ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text()), str(source.with_suffix(".png")))
