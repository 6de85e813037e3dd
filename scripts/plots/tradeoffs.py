"""Accuracy against memory, with the configurations that nothing beats."""

from __future__ import annotations

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
