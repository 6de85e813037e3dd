"""Accuracy against what it costs: memory and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from scripts.plots import choice, figures, look
from scripts.plots.look import Picture
from scripts.plots.memory import Value
from scripts.plots.scale import accuracy_axis
from scripts.runs import Group, Results, Stat


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats: none has less of the first and no less of the second number."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def scatter(
    ax: Axes, groups: Sequence[Group], results: Results, cost: Value, label: str, scale: float = 1.0
) -> list[float]:
    """Accuracy over cost with the Pareto front; returns the accuracies drawn."""
    seen: list[tuple[Group, Stat, Stat]] = []
    for group in groups:
        accuracy, paid = group.stat("final_accuracy"), cost(group)
        if accuracy and paid:
            seen.append((group, paid, accuracy))
    for group, paid, accuracy in seen:
        point = look.point_of(group, results, 8)
        ax.errorbar(
            paid.mean / scale, accuracy.mean, yerr=accuracy.sd, xerr=(paid.sd or 0) / scale or None,
            ecolor=point["color"], elinewidth=1, capsize=2, **point,
        )  # fmt: skip
    front = [seen[i] for i in pareto([(paid.mean, accuracy.mean) for _, paid, accuracy in seen])]
    xs, ys = [paid.mean / scale for _, paid, _ in front], [accuracy.mean for _, _, accuracy in front]
    ax.plot(xs, ys, drawstyle="steps-post", color=look.INK, linewidth=1, alpha=0.6, zorder=2)
    ax.set_xlabel(label)
    if seen:
        look.fit(ax, [paid.mean / scale for _, paid, _ in seen])
    _name_front(ax, front, scale)
    return [v for _, _, a in seen for v in (a.mean, a.mean - (a.sd or 0), a.mean + (a.sd or 0))]


def _name_front(ax: Axes, front: Sequence[tuple[Group, Stat, Stat]], scale: float) -> None:
    """The names of the configurations on the front, beside their points."""
    low, high = ax.get_xlim()
    for group, paid, accuracy in front:
        x = paid.mean / scale
        inside = ("right", -8) if x > low + 0.65 * (high - low) else ("left", 8)
        look.write_beside(ax, group.label, (x, accuracy.mean), (inside[1], -11), ha=inside[0], color=look.FAINT)


def memory_vs_accuracy(results: Results) -> Picture:
    """Final accuracy against peak memory, and against the state that the optimizer and the pruner hold at the end."""
    name = "memory_vs_accuracy_scatter"
    groups = [group for group in results.groups if group.counted]
    missing = choice.uncounted(results)
    figure_of = figures.peak(results)
    groups = [group for group in groups if figure_of.peak(group)]
    if not groups:
        return Picture(name, None, ["No done run has both an accuracy and a memory figure.", *missing])
    title = f"Accuracy against memory: {figure_of.name}"
    legend = look.keys(groups, results, points=True)
    figure, axes = look.sheet(title, results, (1, 2), (6.2, 4.8), legend, missing, sharey=True)
    unit, scale = look.bytes_unit(v.mean for g in groups if (v := figure_of.peak(g)))
    heights = scatter(axes[0], groups, results, figure_of.peak, f"peak memory ({unit}), {figure_of.axis}", scale)
    scatter(axes[1], groups, results, figures.states, "optimizer + pruning state (bytes per parameter)")
    axes[0].set_title("Peak of training (line: Pareto front)")
    axes[1].set_title("State held at the end, counted from the tensors")
    axes[1].set_xlim(left=0)
    for ax in axes:
        accuracy_axis(ax, heights)
        ax.label_outer()
    return Picture(name, figure, missing)


def _kept(sparsity: float) -> float:
    return -math.log10(max(1 - sparsity, 1e-3))


def accuracy_vs_sparsity(results: Results) -> Picture:
    """Final accuracy over the sparsity reached, a panel for each method with AdamWPrune's state pruning in all."""
    name = "accuracy_vs_sparsity"
    missing = choice.uncounted(results)
    counted = [group for group in results.groups if group.counted]
    pruned = [group for group in counted if group.first.method != "none"]
    if not pruned:
        return Picture(name, None, ["No pruned run is done: there is no accuracy against sparsity.", *missing])
    others = [m for m in ("magnitude", "movement") if any(g.first.method == m for g in pruned)] or ["state"]
    size = (5.6, 4.4) if len(others) > 1 else (9.0, 4.6)
    if len(pruned) < len(counted):
        missing.insert(0, "The leftmost point of a line is its optimizer's dense run.")
    legend = look.keys(counted, results, levels=False)
    title = "Accuracy against sparsity"
    figure, axes = look.sheet(title, results, (1, len(others)), size, legend, missing, sharey=True)
    heights: list[float] = []
    for ax, method in zip(axes, others, strict=True):
        for line in _lines(counted, {method, "state"}):
            heights += _line(ax, line)
        dense = [s.mean for g in counted if g.first.method == "none" and (s := g.stat("final_accuracy"))]
        if dense:
            heights.append(max(dense))
            ax.axhline(max(dense), color=look.INK, linestyle=look.STYLES["none"], linewidth=1.1, zorder=2)
            look.write_beside(
                ax,
                "best dense",
                (1, max(dense)),
                (0, 3),
                xycoords=("axes fraction", "data"),
                ha="right",
                color=look.FAINT,
            )
        if len(others) > 1:
            ax.set_title(
                f"{look.method_name(method)} and AdamWPrune's state"
                if any(g.first.method == "state" for g in pruned)
                else look.method_name(method)
            )
        levels = sorted({0.0, *(g.first.target_sparsity for g in pruned)})
        ax.set_xticks([_kept(level) for level in levels], [f"{100 * level:g}" for level in levels])
        ax.set_xlabel("sparsity of prunable weights (%), spaced by log of the weights kept")
    for ax in axes:
        accuracy_axis(ax, heights)
        ax.label_outer()
    return Picture(name, figure, missing)


def _lines(groups: Sequence[Group], methods: set[str]) -> list[list[Group]]:
    """For each optimizer its dense group and its pruned ones, by sparsity."""
    lines = []
    for name in dict.fromkeys(group.first.optimizer for group in groups):
        mine = [g for g in groups if g.first.optimizer == name]
        pruned = sorted((g for g in mine if g.first.method in methods), key=lambda g: g.first.target_sparsity)
        if pruned:
            lines.append([*(g for g in mine if g.first.method == "none"), *pruned])
    return lines


def _line(ax: Axes, groups: Sequence[Group]) -> list[float]:
    method = groups[-1].first.method
    ours = groups[-1].first.optimizer == "adamwprune"
    colour = look.COLOURS.get(groups[-1].first.optimizer, "#999999")
    points = []
    for group in groups:
        accuracy, reached = group.stat("final_accuracy"), group.stat("final_sparsity")
        if accuracy and reached:
            points.append((_kept(reached.mean), accuracy.mean, accuracy.sd or 0.0))
    xs, ys, spreads = ([point[i] for point in points] for i in range(3))
    ax.errorbar(
        xs, ys, yerr=spreads if any(spreads) else None, color=colour, linestyle=look.STYLES.get(method, "-"),
        marker=look.MARKERS.get(method, "o"), markersize=7 if ours else 6, linewidth=2.2 if ours else 1.5,
        markeredgecolor="white", markeredgewidth=0.7, capsize=2, zorder=5 if ours else 3,
    )  # fmt: skip
    return [v for _, y, spread in points for v in (y, y - spread, y + spread)]
