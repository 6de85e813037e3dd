"""How much memory each configuration trains with, and what accuracy it gives for it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..results.display_names import MIB
from ..results.pareto import count_beaten_by
from ..results.records import MeanStd, Results, SeedGroup
from . import measures, run_selection, style
from .dot_plot import Value, dots, rows_of
from .measures import MemoryMeasure
from .scatter import front_note, name_notable, overlap_note, scatter
from .style import Picture

RANKED = 12  # lines of the ranking table


def memory_over_adamwprune(results: Results, measure: MemoryMeasure) -> Value | None:
    """Return the mean memory in percent above AdamWPrune's plain runs at the same sparsity; dense runs have none."""
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
    """Draw memory in mean and at its peak, state, distance to AdamWPrune, and what nothing beats."""
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
    if len(groups) == 1:
        missing.insert(0, "One configuration: there is nothing to compare it with.")
        figure, axes = style.new_figure(title, results, (1, 2), size, legend, missing)
        _mean_and_peak(axes[0], axes[1], groups, results, measure, unit, scale)
        return Picture(name, figure, missing)
    missing += overlap_note(groups, measure.peak)
    figure, axes = style.new_figure(title, results, (3, 2), size, legend, missing)
    mean, peak, state, difference, cloud, table = axes
    _mean_and_peak(mean, peak, groups, results, measure, unit, scale)
    dots(state, groups, results, measures.states_at_peak, "optimizer + pruning state (bytes per prunable weight)")
    label = "mean memory above AdamWPrune's (%)"
    above = versus or (lambda _: None)
    dots(difference, groups, results, above, label, digits=1, absent="nothing to compare", values_aside=True)
    difference.axvline(0, color=style.INK, linewidth=1, zorder=2)
    scatter(cloud, groups, results, measure.peak, f"peak memory ({unit})", scale)
    state.set_title("State at its peak, counted from the tensors")
    difference.set_title("Against AdamWPrune at the same sparsity")
    cloud.set_title(f"Accuracy against peak memory{front_note(groups, measure.peak)}")
    table.set_title("Ranking: accuracy at equal or less memory")
    for ax in (peak, difference):
        ax.set_yticklabels([])
    _ranking(table, groups, measure, unit, scale)
    name_notable(cloud, groups, measure.peak, scale)
    return Picture(name, figure, missing)


def _mean_and_peak(
    mean: Axes, peak: Axes, groups: Sequence[SeedGroup], results: Results, measure: MemoryMeasure, unit: str,
    scale: float,
) -> None:  # fmt: skip
    dots(mean, groups, results, measure.mean, f"mean memory ({unit}), {measure.axis}", scale)
    dots(peak, groups, results, measure.peak, f"peak memory ({unit}), {measure.axis}", scale)
    mean.set_title("Mean over training")
    peak.set_title("Peak")
    peak.set_yticklabels([])


def _ranking(ax: Axes, groups: Sequence[SeedGroup], measure: MemoryMeasure, unit: str, scale: float) -> None:
    """The RANKED configurations that the fewest others beat, as lines of text; AdamWPrune's stand in bold.

    One beats another if it is at least as accurate with no more memory. Accuracy per 100 MiB is told of a GPU alone:
    elsewhere the memory is mostly activations, which no optimizer changes.
    """
    known = [(g, a, p) for g in groups if (a := g.stat("final_accuracy")) and (p := measure.peak(g))]
    beaten = count_beaten_by([(peak.mean, accuracy.mean) for _, accuracy, peak in known])
    ranked = sorted(zip(beaten, known, strict=True), key=lambda line: (line[0], -line[1][1].mean))
    on_gpu = measure.key in ("process_mib", "device_used_mib")
    ax.axis("off")
    columns = [(0.0, "left", "beaten by"), (0.13, "left", "configuration"), (0.74, "right", "accuracy %")]
    columns += [(0.86 if on_gpu else 1.0, "right", f"peak {unit}")]
    columns += [(1.0, "right", "per 100 MiB")] if on_gpu else []
    height = 1 / (min(max(len(ranked), 6), RANKED) + 1.5)
    for x, side, text in columns:
        ax.text(x, 1 - height / 2, text, ha=side, va="center", fontsize=8.5, color=style.FAINT, transform=ax.transAxes)
    for place, (count, (group, accuracy, peak)) in enumerate(ranked[:RANKED], 1):
        texts = [str(count), _short(group.label), accuracy.text(), f"{peak.mean / scale:,.2f}"]
        if on_gpu:
            texts.append(f"{accuracy.mean / (peak.mean / (100 * MIB)):,.1f}")
        weight = "bold" if group.first.optimizer == "adamwprune" else "normal"
        for (x, side, _), text in zip(columns, texts, strict=True):
            y = 1 - height * (place + 0.5)
            ax.text(x, y, text, ha=side, va="center", fontsize=8.5, fontweight=weight, transform=ax.transAxes)
    if len(ranked) > RANKED:
        text = f"and {len(ranked) - RANKED} more in summary.md"
        ax.text(0.13, height * 0.4, text, va="center", fontsize=8.5, color=style.FAINT, transform=ax.transAxes)


def _short(label: str, most: int = 33) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
