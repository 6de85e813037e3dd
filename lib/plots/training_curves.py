"""What happened epoch by epoch, and how the runs of one optimizer compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..results.records import MeanStd, Results, SeedGroup
from . import run_selection, style
from .axes import accuracy_axis
from .style import Picture


def across_seeds(group: SeedGroup, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return epochs, mean and sample deviation (0 for one run) over the group's complete runs, else all."""
    runs = group.complete_runs or group.runs
    values: dict[float, list[float]] = {}
    for run in runs:
        for epoch, value in zip(run.column("epoch"), run.column(column), strict=True):
            if math.isfinite(value) and math.isfinite(epoch):
                values.setdefault(epoch, []).append(value)
    epochs = sorted(values)
    mean = [float(np.mean(values[e])) for e in epochs]
    deviation = [float(np.std(values[e], ddof=1)) if len(values[e]) > 1 else 0.0 for e in epochs]
    return np.array(epochs), np.array(mean), np.array(deviation)


def draw(axes: Axes, groups: Sequence[SeedGroup], results: Results, column: str, scale: float = 1.0) -> list[float]:
    """Draw a line for each group with its band over seeds, a cross where a run broke off; return all heights."""
    heights: list[float] = []
    for group in groups:
        epochs, mean, deviation = across_seeds(group, column)
        if not len(epochs):
            continue
        mean, deviation = scale * mean, scale * deviation
        line = style.line_style(group, results)
        alone: dict[str, Any] = {"marker": style.MARKERS.get(group.first.method, "o")} if len(epochs) == 1 else {}
        axes.plot(epochs, mean, **line, **alone)
        if deviation.any():
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=line["color"], alpha=0.18, lw=0)
        if not group.complete_runs and group.first.state != "running":
            axes.plot(epochs[-1], mean[-1], marker="x", markersize=9, markeredgewidth=2, color=line["color"], zorder=6)
        heights += [*mean, *(mean - deviation), *(mean + deviation)]
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.margins(x=0.02)
    shown = {float(epoch) for group in groups for epoch in across_seeds(group, column)[0]}
    if len(shown) == 1:  # a single epoch has no width of its own
        (epoch,) = shown
        axes.set_xlim(epoch - 0.5, epoch + 0.5)
        axes.set_xticks([epoch])
    return heights


def _panels(groups: Sequence[SeedGroup]) -> list[list[SeedGroup]]:
    """One panel for few groups, one for each optimizer for many."""
    if len(groups) <= 8:
        return [list(groups)]
    names = dict.fromkeys(group.first.optimizer for group in groups)
    return [[group for group in groups if group.first.optimizer == name] for name in names]


def _grid(count: int) -> tuple[int, int]:
    columns = min(count, 3)
    return math.ceil(count / columns), columns


def _per_epoch(results: Results, name: str, title: str, column: str, scale: float = 1.0) -> Picture:
    groups = [group for group in results.groups if len(across_seeds(group, column)[0])]
    missing = run_selection.exclusion_note(results)
    if not groups:
        return Picture(name, None, [f"No run has recorded its {column.replace('_', ' ')} yet.", *missing])
    panels = _panels(groups)
    size = (9.0, 4.6) if len(panels) == 1 else (3.9, 3.1)
    figure, axes = style.new_figure(
        title,
        results,
        _grid(len(panels)),
        size,
        style.legend_entries(groups, results),
        missing,
        sharex=True,
        sharey=True,
    )
    heights = [draw(ax, panel, results, column, scale) for ax, panel in zip(axes, panels, strict=False)]
    for ax, panel in zip(axes, panels, strict=False):
        if len(panels) > 1:
            ax.set_title(style.optimizer_name(panel[0].first.optimizer))
        if column == "test_accuracy":
            accuracy_axis(ax, [h for some in heights for h in some])
        else:
            ax.set_ylabel("sparsity (%)")
            ax.set_ylim(-3, 103)
        ax.label_outer()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return Picture(name, figure, missing)


def accuracy_per_epoch(results: Results) -> Picture:
    return _per_epoch(results, "accuracy_per_epoch", "Test accuracy per epoch", "test_accuracy")


def sparsity_per_epoch(results: Results) -> Picture:
    title = "Sparsity per epoch (zeros counted among prunable weights)"
    pruned = [run for run in results.runs if run.method != "none"]
    if not pruned:
        return Picture("sparsity_per_epoch", None, ["No pruned run: there is no sparsity to show."])
    return _per_epoch(results, "sparsity_per_epoch", title, "sparsity", 100.0)


def accuracy_evolution(results: Results, optimizer: str) -> Picture:
    """Draw the test accuracy of one optimizer's runs over the epochs, the last one in numbers."""
    name = f"{optimizer}_accuracy_evolution"
    groups = [g for g in results.groups if g.first.optimizer == optimizer and len(across_seeds(g, "test_accuracy")[0])]
    if not groups:
        return Picture(name, None, [f"{style.optimizer_name(optimizer)}: no run has recorded its accuracy yet."])
    title = f"{style.optimizer_name(optimizer)}: test accuracy per epoch"
    legend = style.legend_entries(groups, results)[1:]
    only = _only(results, groups)
    missing = run_selection.exclusion_note(only)
    figure, (ax,) = style.new_figure(title, only, (1, 1), (9.0, 4.4), legend, missing)
    heights = draw(ax, groups, results, "test_accuracy")
    accuracy_axis(ax, heights)
    _label_ends(ax, groups)
    return Picture(name, figure, missing)


def _label_ends(ax: Axes, groups: Sequence[SeedGroup]) -> None:
    """The last epoch's accuracy of each group, written beside its line, spread so that no two texts overlap."""
    ends = []
    for group in groups:
        epochs, mean, _ = across_seeds(group, "test_accuracy")
        ends.append((float(mean[-1]), float(epochs[-1]), f"{mean[-1]:.2f} %  {group.method_label}"))
    right = max(end[1] for end in ends)
    to_pixels = ax.transData.transform
    low, high = (to_pixels((right, v))[1] for v in ax.get_ylim())
    gap = 0.045 * (high - low)
    taken: list[float] = []
    for accuracy, _, text in sorted(ends):
        height = float(to_pixels((right, accuracy))[1])
        height = max(height, taken[-1] + gap) if taken else height
        taken.append(height)
        share = (height - low) / (high - low)
        ax.annotate(text, (1.01, share), xycoords="axes fraction", va="center", fontsize=8.5, annotation_clip=False)


def _only(results: Results, groups: Sequence[SeedGroup]) -> Results:
    names = {run.name for group in groups for run in group.runs}
    runs = tuple(run for run in results.runs if run.name in names)
    return replace(results, runs=runs, planned=())


def model_comparison(results: Results, optimizer: str) -> Picture:
    """Draw one optimizer's configurations side by side: final accuracy and loss, sparsity, training time."""
    name = f"{optimizer}_model_comparison"
    groups = [g for g in results.groups if g.first.optimizer == optimizer]
    counted = [g for g in groups if g.complete_runs]
    only = _only(results, groups)
    missing = run_selection.exclusion_note(only)
    if not counted:
        return Picture(name, None, [f"{style.optimizer_name(optimizer)}: no run is done yet.", *missing])
    title = f"{style.optimizer_name(optimizer)}: accuracy, loss, sparsity and time"
    figure, axes = style.new_figure(title, only, (1, 4), (3.0, 1.4 + 0.32 * len(counted)), (), missing, sharey=True)
    rows = np.arange(len(counted))[::-1]
    labels = [
        f"{g.method_label}" + (f"  (n={len(g.complete_runs)})" if len(g.complete_runs) > 1 else "") for g in counted
    ]
    panels = (
        ("Accuracy, last epoch", "test accuracy (%)", "final_accuracy", 1.0, 2),
        ("Loss, last epoch", "test loss", None, 1.0, 3),
        ("Sparsity reached", "zeros among prunable weights (%)", "final_sparsity", 100.0, 1),
        ("Time", "training time (s)", "seconds", 1.0, 1),
    )
    for ax, (heading, label, field, scale, digits) in zip(axes, panels, strict=True):
        _dots(ax, rows, counted, results, field, scale, digits)
        ax.set_title(heading)
        ax.set_xlabel(label)
    axes[0].set_yticks(rows, labels)
    axes[0].set_ylim(-0.6, len(counted) - 0.4)
    return Picture(name, figure, missing)


def _dots(
    ax: Axes,
    rows: np.ndarray,
    groups: Sequence[SeedGroup],
    results: Results,
    field: str | None,
    scale: float,
    digits: int,
) -> None:
    """A dot with its deviation and its value for each group; accuracies keep their own range, others start at 0."""
    ends = []
    for row, group in zip(rows, groups, strict=True):
        losses = (run.column("test_loss")[-1:] for run in group.complete_runs)
        stat = group.stat(field) if field else MeanStd.of(v for loss in losses for v in loss)
        if stat is None:
            ax.annotate("not recorded", (0.02, row), xycoords=("axes fraction", "data"), va="center", color=style.FAINT)
            continue
        mean, spread = scale * stat.mean, scale * (stat.sd or 0.0)
        point = style.point_style(group, results)
        if field != "final_accuracy":
            ax.hlines(row, 0, mean, color=style.tint("#8b949e", 0.5), linewidth=1.2, zorder=2)
        ax.errorbar(mean, row, xerr=spread or None, ecolor=point["color"], capsize=3, **point)
        style.write_beside(ax, f"{mean:,.{digits}f}", (mean, row), (0, 7), ha="center")
        ends += [mean - spread, mean + spread]
    ax.grid(axis="y", visible=False)
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if field == "final_accuracy":
        margin = max(0.15 * (high - low), 0.1)
        ax.set_xlim(low - margin, min(high + margin, 100.4))
    elif field == "final_sparsity":
        ax.set_xlim(-9, 108)  # room for the number over 0
    else:
        ax.set_xlim(0, 1.15 * high or 1.0)
