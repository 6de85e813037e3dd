"""Accuracy over sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results.records import Results, SeedGroup
from . import run_selection, style
from .axes import accuracy_axis, kept
from .style import Picture


def accuracy_vs_sparsity(results: Results) -> Picture:
    """Draw final accuracy over the sparsity reached, a panel for each method beside AdamWPrune's state pruning."""
    name = "accuracy_vs_sparsity"
    missing = run_selection.exclusion_note(results)
    counted = [group for group in results.groups if group.complete_runs]
    pruned = [group for group in counted if group.first.method != "none"]
    if not pruned:
        return Picture(name, None, ["No pruned run is done: there is no accuracy against sparsity.", *missing])
    if len({group.first.target_sparsity for group in pruned}) == 1:
        return Picture(name, _at_one_sparsity(results, pruned, missing), missing)
    others = [m for m in ("magnitude", "movement") if any(g.first.method == m for g in pruned)] or ["state"]
    size = (5.6, 4.4) if len(others) > 1 else (9.0, 4.6)
    if len(pruned) < len(counted):
        missing.insert(0, "The leftmost point of a line is its optimizer's dense run.")
    legend = style.legend_entries(counted, results, levels=False)
    title = "Accuracy against sparsity"
    figure, axes = style.new_figure(title, results, (1, len(others)), size, legend, missing, sharey=True)
    heights: list[float] = []
    for ax, method in zip(axes, others, strict=True):
        for line in _lines(counted, {method, "state"}):
            heights += _line(ax, line)
        dense = [s.mean for g in counted if g.first.method == "none" and (s := g.stat("final_accuracy"))]
        if dense:
            heights.append(max(dense))
            ax.axhline(max(dense), color=style.INK, linestyle=style.STYLES["none"], linewidth=1.1, zorder=2)
            style.write_beside(
                ax, "best dense", (1, max(dense)), (0, 3), xycoords=("axes fraction", "data"), ha="right",
                color=style.FAINT,
            )  # fmt: skip
        if len(others) > 1:
            ax.set_title(
                f"{style.method_name(method)} and AdamWPrune's state"
                if any(g.first.method == "state" for g in pruned)
                else style.method_name(method)
            )
        levels = sorted({0.0, *(g.first.target_sparsity for g in pruned)})
        ax.set_xticks([kept(level) for level in levels], [f"{100 * level:g}" for level in levels])
        ax.set_xlabel("sparsity of prunable weights (%), spaced by log of the weights kept")
    for ax in axes:
        accuracy_axis(ax, heights)
        ax.label_outer()
    return Picture(name, figure, missing)


def _lines(groups: Sequence[SeedGroup], methods: set[str]) -> list[list[SeedGroup]]:
    """For each optimizer its dense group and its pruned ones, by sparsity."""
    lines = []
    for name in dict.fromkeys(group.first.optimizer for group in groups):
        of_optimizer = [g for g in groups if g.first.optimizer == name]
        pruned = sorted((g for g in of_optimizer if g.first.method in methods), key=lambda g: g.first.target_sparsity)
        if pruned:
            lines.append([*(g for g in of_optimizer if g.first.method == "none"), *pruned])
    return lines


def _line(ax: Axes, groups: Sequence[SeedGroup]) -> list[float]:
    method = groups[-1].first.method
    emphasised = groups[-1].first.optimizer == "adamwprune"
    colour = style.COLOURS.get(groups[-1].first.optimizer, "#999999")
    points = []
    for group in groups:
        accuracy, reached = group.stat("final_accuracy"), group.stat("final_sparsity")
        if accuracy and reached:
            points.append((kept(reached.mean), accuracy.mean, accuracy.sd or 0.0))
    xs, ys, spreads = ([point[i] for point in points] for i in range(3))
    ax.errorbar(
        xs, ys, yerr=spreads if any(spreads) else None, color=colour, linestyle=style.STYLES.get(method, "-"),
        marker=style.MARKERS.get(method, "o"), markersize=7 if emphasised else 6, linewidth=2.2 if emphasised else 1.5,
        markeredgecolor="white", markeredgewidth=0.7, capsize=2, zorder=5 if emphasised else 3,
    )  # fmt: skip
    return [v for _, y, spread in points for v in (y, y - spread, y + spread)]


def _at_one_sparsity(results: Results, pruned: Sequence[SeedGroup], missing: list[str]) -> Figure:
    """Where there is no other sparsity to draw a line to: a row for each configuration, from its dense run to it."""
    dense = {g.first.optimizer: g for g in results.groups if g.complete_runs and g.first.method == "none"}
    dense = {group.first.optimizer: dense[group.first.optimizer] for group in pruned if group.first.optimizer in dense}
    missing.insert(0, "One sparsity was trained: a row for each configuration instead of lines over sparsities.")
    if dense:
        missing.insert(1, "A thin line leads from the same optimizer's dense run.")
    title = f"Accuracy at {100 * pruned[0].first.target_sparsity:g} % sparsity"
    legend = style.legend_entries([*dense.values(), *pruned], results, points=True)
    figure, (ax,) = style.new_figure(title, results, (1, 1), (9.0, 1.2 + 0.36 * len(pruned)), legend, missing)
    seen: list[float] = []
    for row, group in enumerate(reversed(pruned)):
        before, after = dense.get(group.first.optimizer), group.stat("final_accuracy")
        assert after is not None  # it is counted
        stats = [after]
        if before and (stat := before.stat("final_accuracy")):
            stats.append(stat)
            low, high = sorted((stat.mean, after.mean))
            ax.hlines(row, low, high, color="#8b949e", linewidth=1, zorder=2)
            ax.plot(stat.mean, row, **style.point_style(before, results))
        ax.errorbar(after.mean, row, xerr=after.sd, capsize=3, **style.point_style(group, results))
        style.write_beside(ax, after.text(), (after.mean, row), (0, 7), ha="center")
        seen += [v for stat in stats for v in (stat.mean - (stat.sd or 0.0), stat.mean + (stat.sd or 0.0))]
    ax.set_yticks(range(len(pruned)), [group.configuration for group in reversed(pruned)])
    ax.set_ylim(-0.6, len(pruned) - 0.3)
    accuracy_axis(ax, seen, vertical=False)
    return figure
