"""Six panels that say how much memory each configuration trains with and what it gives for it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..results.display_names import MIB
from ..results.records import Group, Results, Stat
from . import measures, run_selection, style
from .dot_plot import Value, dots, rows_of
from .measures import Figure
from .scatter import name_notable, scatter
from .style import Picture

RANKED = 12  # lines of the ranking table


def per_100_mib(figure_of: Figure) -> Value:
    """Percent of accuracy for each 100 MiB of the peak, run by run."""

    def of(group: Group) -> Stat | None:
        pairs = [(run.final_accuracy, figure_of.peak_of(run)) for run in group.counted]
        return Stat.of(a / (m / (100 * MIB)) for a, m in pairs if a is not None and m)

    return of


def against_ours(results: Results, figure_of: Figure) -> Value | None:
    """Mean memory in percent above that of AdamWPrune's plain runs at the same sparsity; dense runs have none."""
    plain = [g for g in results.groups if g.first.method == "state" and not g.first.variant]
    ours = {group.first.target_sparsity: stat.mean for group in plain if (stat := figure_of.mean(group))}
    if not ours:
        return None

    def of(group: Group) -> Stat | None:
        reference = ours.get(group.first.target_sparsity)
        stat = figure_of.mean(group)
        return Stat(stat.n, 100 * (stat.mean / reference - 1), None) if stat and reference else None

    return of


def training_memory_comparison(results: Results) -> Picture:
    name = "training_memory_comparison"
    results, missing = run_selection.of_memory(results)
    figure_of = measures.training(results)
    groups = [group for group in results.groups if group.counted and figure_of.peak(group)]
    if not groups:
        return Picture(name, None, ["No done run has a memory figure to compare.", *missing])
    unit, scale = style.bytes_unit(stat.mean for g in groups if (stat := figure_of.peak(g)))
    versus = against_ours(results, figure_of)
    if versus is None:
        missing.append("No AdamWPrune run with state pruning is done: there is nothing to measure the others against.")
    title = f"Memory of training: {figure_of.name}"
    size = (6.4, max(2.9, 0.95 + 0.235 * len(rows_of(groups))))
    legend = style.keys(groups, results, points=True)
    figure, axes = style.sheet(title, results, (3, 2), size, legend, missing)
    mean, peak, efficiency, difference, cloud, table = axes
    dots(mean, groups, results, figure_of.mean, f"mean memory ({unit}), {figure_of.axis}", scale)
    dots(peak, groups, results, figure_of.peak, f"peak memory ({unit}), {figure_of.axis}", scale)
    dots(efficiency, groups, results, per_100_mib(figure_of), "test accuracy (%) per 100 MiB of peak memory", digits=1)
    label = "mean memory above AdamWPrune's (%)"
    dots(difference, groups, results, versus or (lambda _: None), label, digits=1, absent="nothing to compare")
    difference.axvline(0, color=style.INK, linewidth=1, zorder=2)
    scatter(cloud, groups, results, figure_of.peak, f"peak memory ({unit})", scale)
    headings = (
        "Mean over training", "Peak", "Accuracy for memory", "Against AdamWPrune at the same sparsity",
        "Accuracy against peak memory (line: Pareto front)", "Ranking by accuracy per 100 MiB",
    )  # fmt: skip
    for ax, heading in zip(axes, headings, strict=True):
        ax.set_title(heading)
    for ax in (peak, difference):
        ax.set_yticklabels([])
    _ranking(table, groups, figure_of, unit, scale)
    name_notable(cloud, groups, figure_of.peak, scale)
    return Picture(name, figure, missing)


def _ranking(ax: Axes, groups: Sequence[Group], figure_of: Figure, unit: str, scale: float) -> None:
    """The best RANKED configurations as lines of text; AdamWPrune's stand in bold."""
    value = per_100_mib(figure_of)
    scored = [(stat.mean, group) for group in groups if (stat := value(group))]
    ranked = sorted(scored, key=lambda pair: -pair[0])
    ax.axis("off")
    columns = ((0.0, "left", "#"), (0.05, "left", "configuration"), (0.7, "right", "accuracy %"))
    columns = (*columns, (0.84, "right", f"peak {unit}"), (1.0, "right", "per 100 MiB"))
    height = 1 / (min(max(len(ranked), 6), RANKED) + 1.5)
    for x, side, text in columns:
        ax.text(x, 1 - height / 2, text, ha=side, va="center", fontsize=8.5, color=style.FAINT, transform=ax.transAxes)
    for place, (score, group) in enumerate(ranked[:RANKED], 1):
        accuracy, peak = group.stat("final_accuracy"), figure_of.peak(group)
        assert accuracy and peak
        texts = (str(place), _short(group.label), accuracy.text(), f"{peak.mean / scale:,.2f}", f"{score:,.1f}")
        weight = "bold" if group.first.optimizer == "adamwprune" else "normal"
        for (x, side, _), text in zip(columns, texts, strict=True):
            y = 1 - height * (place + 0.5)
            ax.text(x, y, text, ha=side, va="center", fontsize=8.5, fontweight=weight, transform=ax.transAxes)
    if len(ranked) > RANKED:
        text = f"and {len(ranked) - RANKED} more in summary.md"
        ax.text(0.05, height * 0.4, text, va="center", fontsize=8.5, color=style.FAINT, transform=ax.transAxes)


def _short(label: str, most: int = 33) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
