"""Six panels that say how much memory each configuration trains with and what it gives for it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..results.display_names import MIB
from ..results.records import MeanStd, Results, SeedGroup
from . import measures, run_selection, style
from .dot_plot import Value, dots, rows_of
from .measures import MemoryMeasure
from .scatter import name_notable, scatter
from .style import Picture

RANKED = 12  # lines of the ranking table


def accuracy_per_100_mib(measure: MemoryMeasure) -> Value:
    """Percent of accuracy for each 100 MiB of the peak, run by run."""

    def of(group: SeedGroup) -> MeanStd | None:
        pairs = [(run.final_accuracy, measure.peak_of(run)) for run in group.complete_runs]
        return MeanStd.of(a / (m / (100 * MIB)) for a, m in pairs if a is not None and m)

    return of


def memory_over_adamwprune(results: Results, measure: MemoryMeasure) -> Value | None:
    """Mean memory in percent above that of AdamWPrune's plain runs at the same sparsity; dense runs have none."""
    plain = [g for g in results.groups if g.first.method == "state" and not g.first.variant]
    reference_means = {group.first.target_sparsity: stat.mean for group in plain if (stat := measure.mean(group))}
    if not reference_means:
        return None

    def of(group: SeedGroup) -> MeanStd | None:
        reference = reference_means.get(group.first.target_sparsity)
        stat = measure.mean(group)
        return MeanStd(stat.n, 100 * (stat.mean / reference - 1), None) if stat and reference else None

    return of


def training_memory_comparison(results: Results) -> Picture:
    name = "training_memory_comparison"
    results, missing = run_selection.with_memory_variants(results)
    measure = measures.training(results)
    groups = [group for group in results.groups if group.complete_runs and measure.peak(group)]
    if not groups:
        return Picture(name, None, ["No done run has a memory figure to compare.", *missing])
    unit, scale = style.bytes_unit(stat.mean for g in groups if (stat := measure.peak(g)))
    versus = memory_over_adamwprune(results, measure)
    if versus is None:
        missing.append("No AdamWPrune run with state pruning is done: there is nothing to measure the others against.")
    title = f"Memory of training: {measure.name}"
    size = (6.4, max(2.9, 0.95 + 0.235 * len(rows_of(groups))))
    legend = style.legend_entries(groups, results, points=True)
    figure, axes = style.new_figure(title, results, (3, 2), size, legend, missing)
    mean, peak, efficiency, difference, cloud, table = axes
    dots(mean, groups, results, measure.mean, f"mean memory ({unit}), {measure.axis}", scale)
    dots(peak, groups, results, measure.peak, f"peak memory ({unit}), {measure.axis}", scale)
    dots(
        efficiency,
        groups,
        results,
        accuracy_per_100_mib(measure),
        "test accuracy (%) per 100 MiB of peak memory",
        digits=1,
    )
    label = "mean memory above AdamWPrune's (%)"
    dots(difference, groups, results, versus or (lambda _: None), label, digits=1, absent="nothing to compare")
    difference.axvline(0, color=style.INK, linewidth=1, zorder=2)
    scatter(cloud, groups, results, measure.peak, f"peak memory ({unit})", scale)
    headings = (
        "Mean over training", "Peak", "Accuracy for memory", "Against AdamWPrune at the same sparsity",
        "Accuracy against peak memory (line: Pareto front)", "Ranking by accuracy per 100 MiB",
    )  # fmt: skip
    for ax, heading in zip(axes, headings, strict=True):
        ax.set_title(heading)
    for ax in (peak, difference):
        ax.set_yticklabels([])
    _ranking(table, groups, measure, unit, scale)
    name_notable(cloud, groups, measure.peak, scale)
    return Picture(name, figure, missing)


def _ranking(ax: Axes, groups: Sequence[SeedGroup], measure: MemoryMeasure, unit: str, scale: float) -> None:
    """The best RANKED configurations as lines of text; AdamWPrune's stand in bold."""
    value = accuracy_per_100_mib(measure)
    scored = [(stat.mean, group) for group in groups if (stat := value(group))]
    ranked = sorted(scored, key=lambda pair: -pair[0])
    ax.axis("off")
    columns = (
        (0.0, "left", "#"), (0.05, "left", "configuration"), (0.7, "right", "accuracy %"),
        (0.84, "right", f"peak {unit}"), (1.0, "right", "per 100 MiB"),
    )  # fmt: skip
    height = 1 / (min(max(len(ranked), 6), RANKED) + 1.5)
    for x, side, text in columns:
        ax.text(x, 1 - height / 2, text, ha=side, va="center", fontsize=8.5, color=style.FAINT, transform=ax.transAxes)
    for place, (score, group) in enumerate(ranked[:RANKED], 1):
        accuracy, peak = group.stat("final_accuracy"), measure.peak(group)
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
