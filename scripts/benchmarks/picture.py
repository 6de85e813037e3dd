"""The picture of how cost grows, from a file that bench.py wrote."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.plots import look

PANELS = {"epoch of ": "Training epoch (seconds)", " of a matrix: runs": "Table, pictures, report (seconds)"}


def draw(result: dict[str, Any], path: str) -> bool:
    """Draw time against size into `path`; False where the file holds nothing of the part `growth`."""
    parts: dict[str, list[tuple[float, float]]] = {}
    for row in result["rows"]:
        if (size := row["name"].replace(",", "")).isdigit():
            parts.setdefault(row["part"], []).append((float(size), row["milliseconds"] / 1000))
    if not parts:
        return False
    with look.style():
        figure = Figure(figsize=(11, 4.6), dpi=look.DPI, layout="constrained")
        figure.suptitle(f"How cost grows · {result['device']} · torch {result['torch']}", x=0.01, ha="left")
        for ax, (mark, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for part, points in parts.items():
                if mark in part:
                    label = part.replace("epoch of ", "").replace(" of a matrix: runs", "")
                    ax.plot(*zip(*points, strict=True), marker="o", label=label)
            ax.set(title=title, xscale="log", yscale="log", ylabel="seconds (log)")
            ax.set_xlabel("batch, images or width (log)" if mark.startswith("epoch") else "runs in the matrix (log)")
            ax.legend()
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return True
