"""Where pruning took the weights from: layer by layer, and along the ranking."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from ..results.records import Results, RunRecord, SeedGroup, number
from . import run_selection, style
from .axes import kept
from .style import Picture

ROWS = 12  # configurations in the map of layers


def _layers(run: RunRecord) -> dict[str, float]:
    last = run.metrics[-1].get("layer_sparsity") if run.metrics else None
    known = last if isinstance(last, dict) else {}
    return {str(name): v for name, value in known.items() if (v := number(value)) is not None}


def _chosen(results: Results) -> list[SeedGroup]:
    """Pruned groups with layer sparsities: all if they fit, else AdamWPrune's and one for each other optimizer."""
    having = [g for g in results.groups if g.first.method != "none" and any(_layers(run) for run in g.runs)]
    if len(having) <= ROWS:
        return having
    keep = {g.key for g in run_selection.representative(results, ROWS, pruned_only=True)}
    keep |= {g.key for g in having if g.first.optimizer == "adamwprune"}
    return [g for g in having if g.key in keep][-ROWS:]


def layer_sparsity(results: Results) -> Picture:
    """Draw a map of configurations by layers: number and colour of a cell are its sparsity at the end."""
    name = "layer_sparsity"
    groups = _chosen(results)
    missing = [*run_selection.selection_note(groups, results, "pruned"), *run_selection.exclusion_note(results)]
    if not groups:
        return Picture(name, None, ["No pruned run has recorded the sparsity of its layers.", *missing])
    layers = list(dict.fromkeys(layer for g in groups for run in g.runs for layer in _layers(run)))
    table = np.full((len(groups), len(layers)), np.nan)
    for row, group in enumerate(groups):
        for column, layer in enumerate(layers):
            values = [held[layer] for run in group.complete_runs or group.runs if layer in (held := _layers(run))]
            table[row, column] = np.mean(values) if values else np.nan
    many = len(layers) > 8
    size = (max(7.5, 1.9 + (0.52 if many else 0.95) * len(layers)), 1.4 + 0.36 * len(groups) + 0.5 * many)
    title = "Sparsity of each layer at the end of training"
    figure, (ax,) = style.new_figure(title, results, (1, 1), size, (), missing)
    heights = kept(table)
    top = float(max(np.nanmax(heights), kept(0.5)))
    image = ax.imshow(heights, aspect="auto", cmap="cividis_r", vmin=0, vmax=top)
    for (row, column), value in np.ndenumerate(table):
        text = "–" if math.isnan(value) else f"{100 * value:.0f}" if many else f"{100 * value:.1f} %"
        ink = "white" if heights[row, column] > 0.5 * top else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=8 if many else 9, color=ink)
    ax.set_yticks(range(len(groups)), [group.label for group in groups])
    short = [layer.removesuffix(".weight") for layer in layers]
    ax.set_xticks(range(len(layers)), short, rotation=60 if many else 0, ha="right" if many else "center")
    ax.set_xlabel("layer, from input to output; sparsity in % of its weights")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    levels = [level for level in (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995) if kept(level) <= top]
    bar = figure.colorbar(image, ax=ax, ticks=kept(levels), pad=0.01)
    bar.ax.set_yticklabels([f"{100 * level:g}" for level in levels])
    bar.set_label("sparsity (%)")
    return Picture(name, figure, missing)


def complete_histogram(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return edges, counts and pruned counts of one record, or None where it is not complete."""
    try:
        edges, counts, pruned = (np.array(entry[name], float) for name in ("edges", "counts", "pruned"))
    except (KeyError, TypeError, ValueError):
        return None
    fit = len(edges) == len(counts) + 1 == len(pruned) + 1 and len(counts)
    whole = fit and all(np.isfinite(values).all() for values in (edges, counts, pruned))
    return (edges, counts, pruned) if whole else None


def importance_histograms(results: Results) -> Picture:
    """Draw the scores that AdamWPrune ranked at some mask updates, and the threshold."""
    name = "importance_histograms"
    having = [run for run in results.runs if any(complete_histogram(entry) for entry in run.importance)]
    if not having:
        return Picture(name, None, ["No run has recorded histograms of importance."])
    run = max(having, key=lambda run: (run.is_complete, run.optimizer == "adamwprune", run.target_sparsity, -run.seed))
    whole = [(entry, h) for entry in run.importance if (h := complete_histogram(entry))]
    configuration = next(group.label for group in results.groups if run in group.runs)
    title = f"What the mask updates ranked: importance of the weights, {configuration}"
    colours = {"kept": style.COLOURS["adamwprune"], "pruned at this update": "#c9c9c9"}
    legend = [[Patch(color=colour, label=label) for label, colour in colours.items()]]
    missing = [
        f"Run {run.name}, {len(whole)} of its mask updates. Weights pruned at an earlier update have no score and are "
        "not shown; the percentage counts them too."
    ]
    figure, axes = style.new_figure(title, results, (1, len(whole)), (12.6 / len(whole), 3.4), legend, missing)
    for ax, (entry, histogram) in zip(axes, whole, strict=True):
        draw_histogram(ax, *histogram)
        step, sparsity = number(entry.get("step")), number(entry.get("sparsity"))
        heading = [
            f"step {step:,.0f}" if step is not None else "",
            f"{100 * sparsity:.1f} % pruned" if sparsity is not None else "",
        ]
        ax.set_title(", ".join(part for part in heading if part))
        weights, pruned = histogram[1].sum(), histogram[2].sum()
        if pruned < 0.005 * weights:  # too few to be seen
            style.write_beside(
                ax, f"this update pruned {pruned:,.0f}\nof {weights:,.0f} weights", (1, 1), (-4, -18),
                xycoords="axes fraction", ha="right", va="top",
            )  # fmt: skip
    axes[0].set_ylabel("weights")
    return Picture(name, figure, missing)


def draw_histogram(ax: Axes, edges: np.ndarray, counts: np.ndarray, pruned: np.ndarray) -> None:
    """Draw an update: both colours before it, kept weights alone after it. Layers may be cut at different scores."""
    ax.set_xlabel("importance")
    if (edges > 0).all():
        ax.set_xlabel("importance (log axis)")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, 1.15 * counts.max())
    ax.stairs(counts, edges, fill=True, color=style.COLOURS["adamwprune"], lw=0)
    ax.stairs(pruned, edges, fill=True, color="#c9c9c9", lw=0)
    if pruned.any():
        _mark_threshold(ax, float(edges[1:][pruned > 0][-1]))


def _mark_threshold(ax: Axes, cut: float) -> None:
    """A line, and its name on the side that has more room."""
    ax.axvline(cut, color=style.INK, linewidth=1.2)
    across = ax.transAxes.inverted().transform(ax.transData.transform((cut, 0)))[0]
    side, away = ("left", 4) if across < 0.5 else ("right", -4)
    style.write_beside(
        ax, "highest threshold", (cut, 1), (away, -3), ha=side, va="top", xycoords=("data", "axes fraction")
    )
