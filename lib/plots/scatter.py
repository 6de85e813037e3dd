"""Scatter plots of accuracy against a cost, with the configurations that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..results.pareto import pareto_front
from ..results.records import MeanStd, Results, SeedGroup
from . import run_selection, style
from .axes import accuracy_axis, accuracy_position
from .dot_plot import Value
from .label_placement import name_points

COVERED = 0.012  # of the length of an axis: markers nearer than that cover most of each other


def _known(groups: Sequence[SeedGroup], cost: Value) -> list[tuple[SeedGroup, MeanStd, MeanStd]]:
    """The groups that have both, with their cost and their accuracy."""
    pairs = [(group, cost(group), group.stat("final_accuracy")) for group in groups]
    return [(group, paid, accuracy) for group, paid, accuracy in pairs if paid and accuracy]


def _front(known: Sequence[tuple[SeedGroup, MeanStd, MeanStd]]) -> list[tuple[SeedGroup, MeanStd, MeanStd]]:
    return [known[i] for i in pareto_front([(paid.mean, accuracy.mean) for _, paid, accuracy in known])]


def scatter(
    ax: Axes, groups: Sequence[SeedGroup], results: Results, cost: Value, label: str, scale: float = 1.0
) -> None:
    """Plot accuracy over cost with the Pareto front."""
    known = _known(groups, cost)
    for group, paid, accuracy in known:
        point = style.point_style(group, results, 8)
        ax.errorbar(
            paid.mean / scale, accuracy.mean, yerr=accuracy.sd, xerr=(paid.sd or 0) / scale or None,
            ecolor=point["color"], elinewidth=1, capsize=2, **point,
        )  # fmt: skip
    front = _front(known)
    xs, ys = [paid.mean / scale for _, paid, _ in front], [accuracy.mean for _, _, accuracy in front]
    ax.plot(xs, ys, drawstyle="steps-post", color=style.INK, linewidth=1, alpha=0.6, zorder=2)
    ax.set_xlabel(label)
    if known:
        style.fit(ax, [paid.mean / scale for _, paid, _ in known])
    stats = [stat for group in groups if (stat := group.stat("final_accuracy"))]
    accuracy_axis(ax, [v for a in stats for v in (a.mean, a.mean - (a.sd or 0), a.mean + (a.sd or 0))])


def front_note(groups: Sequence[SeedGroup], cost: Value) -> str:
    """Return what the title of a scatter plot says of its line: nothing where one configuration beats all others."""
    return " (line: Pareto front)" if len(_front(_known(groups, cost))) > 1 else ""


def overlap_note(groups: Sequence[SeedGroup], *costs: Value) -> list[str]:
    """Return the sentence that names the points hidden by others in scatter plots over `costs`; none without any."""
    hidden: dict[str, None] = {}
    for cost in costs:
        known = _known(groups, cost)
        xs = _positions([paid.mean for _, paid, _ in known], smallest=0.02)
        ys = _positions([float(accuracy_position(accuracy.mean)) for *_, accuracy in known])
        drawn = sorted(range(len(known)), key=lambda i: (known[i][0].first.optimizer == "adamwprune", i))
        for order, i in enumerate(drawn):
            if any(abs(xs[i] - xs[j]) < COVERED and abs(ys[i] - ys[j]) < COVERED for j in drawn[order + 1 :]):
                hidden[known[i][0].label] = None
    return [f"Under other points: {run_selection.sentence_of_names(list(hidden))}."] if hidden else []


def _positions(values: Sequence[float], smallest: float = 0.0) -> list[float]:
    """Values as parts of the axis that holds them, which is never shorter than `smallest` of their size."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = max(high - low, smallest * abs(high)) or 1.0
    return [(value - low) / span for value in values]


def name_notable(ax: Axes, groups: Sequence[SeedGroup], cost: Value, scale: float = 1.0) -> None:
    """Write the names of configurations on the front, of variants and of what they vary; when all else is drawn."""
    known = _known(groups, cost)
    varied = {group.key[:-1] for group in groups if group.first.variant}
    notable = [*_front(known), *(entry for entry in known if entry[0].key[:-1] in varied)]
    places = {g.label: ((paid.mean / scale, accuracy.mean), style.text_colour(g)) for g, paid, accuracy in notable}
    name_points(ax, places)
