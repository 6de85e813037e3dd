"""Every configuration of a study side by side: what the criterion, the layer budget or the schedule changes."""

from __future__ import annotations

import statistics

import numpy as np

from ..results.paired_tests import accuracy_of, dense_baseline, has_validation, mean_accuracy
from ..results.records import Results, SeedGroup
from . import run_selection, style
from .style import Picture


def variants(results: Results) -> Picture:
    """Draw a panel per sparsity, a row per configuration: mean and deviation over seeds, single runs as dots."""
    name = "variants"
    missing = run_selection.exclusion_note(results)
    pruned = [g for g in results.groups if g.complete_runs and g.first.method != "none"]
    if not pruned:
        return Picture(name, None, ["No pruned run is done; dense ones are in the table.", *missing])
    held_out = has_validation(results)
    levels = sorted({g.first.target_sparsity for g in pruned})
    order = _rows(pruned, held_out)
    split = "held-out training images" if held_out else "test set"
    dense = dense_baseline([g for g in results.groups if g.complete_runs])
    note = "Marker: mean, bar: standard deviation over seeds, small dots below: the runs."
    missing.insert(0, f"{note} Dotted line: dense." if dense else note)
    legend = style.legend_entries(pruned, results, points=True, levels=False)
    title, size = f"Accuracy of every configuration, {split}", (12.5 / len(levels), 0.9 + 0.24 * len(order))
    figure, axes = style.new_figure(title, results, (1, len(levels)), size, legend, missing, sharey=True)
    for ax, level in zip(axes, levels, strict=True):
        for group in (g for g in pruned if g.first.target_sparsity == level):
            _dot(ax, group, order.index(_arm(group)), results, held_out)
        if dense:
            ax.axvline(
                mean_accuracy(dense, held_out), color=style.INK, linestyle=style.STYLES["none"], linewidth=1.1, zorder=2
            )
        ax.set_title(f"{100 * level:g} %")
        ax.set_xlabel("accuracy (%)")
        ax.set_yticks(np.arange(len(order)), [label for *_, label in order])
        ax.set_ylim(len(order) - 0.5, -0.5)
    return Picture(name, figure, missing)


def _arm(group: SeedGroup) -> tuple[str, str, str, str]:
    """What stays the same over the sparsities, and its label."""
    run = group.first
    return run.optimizer, run.method, run.variant, group.configuration


def _rows(groups: list[SeedGroup], held_out: bool) -> list[tuple[str, str, str, str]]:
    """The configurations, best first: on average over the sparsities that all of them have, else at the highest."""
    of: dict[tuple[str, str, str, str], dict[float, float]] = {}
    for group in groups:
        of.setdefault(_arm(group), {})[group.first.target_sparsity] = mean_accuracy(group, held_out)
    common = set.intersection(*map(set, of.values())) or {max(level for means in of.values() for level in means)}
    return sorted(of, key=lambda arm: -statistics.fmean(of[arm].get(level, 0.0) for level in common))


def _dot(ax: style.Axes, group: SeedGroup, row: int, results: Results, held_out: bool) -> None:
    values = [v for run in group.complete_runs if (v := accuracy_of(run, held_out)) is not None]
    if not values:
        return
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    shade = style.COLOURS.get(group.first.optimizer, "#999999")
    ax.plot(values, [row + 0.28] * len(values), ".", color=style.tint(shade, 0.45), markersize=4, zorder=3)
    ax.errorbar(statistics.fmean(values), row, xerr=spread or None, capsize=2, color=shade, linestyle="none", zorder=4)
    point = style.point_style(group, results) | style.marker_fill(group, shade)
    ax.plot(statistics.fmean(values), row, **point)
