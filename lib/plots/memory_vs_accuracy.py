"""Accuracy against the peak memory of training, and against the state held at its end."""

from __future__ import annotations

from ..results.records import Results
from . import measures, run_selection, style
from .scatter import front_note, name_notable, overlap_note, scatter
from .style import Picture


def memory_vs_accuracy(results: Results) -> Picture:
    """Draw final accuracy against peak memory, and against the state held at the end."""
    name = "memory_vs_accuracy_scatter"
    results, missing = run_selection.with_memory_variants(results)
    measure = measures.peak(results)
    groups = [group for group in results.groups if group.complete_runs and measure.peak(group)]
    if not groups:
        return Picture(name, None, ["No done run has both an accuracy and a memory figure.", *missing])
    missing += overlap_note(groups, measure.peak, measures.states_at_end)
    title = f"Accuracy against memory: {measure.name}"
    legend = style.legend_entries(groups, results, points=True)
    figure, axes = style.new_figure(title, results, (1, 2), (6.2, 4.8), legend, missing, sharey=True)
    unit, scale = style.bytes_unit(v.mean for g in groups if (v := measure.peak(g)))
    scatter(axes[0], groups, results, measure.peak, f"peak memory ({unit}), {measure.axis}", scale)
    scatter(axes[1], groups, results, measures.states_at_end, "optimizer + pruning state (bytes per prunable weight)")
    axes[0].set_title(f"Peak of training{front_note(groups, measure.peak)}")
    axes[1].set_title(f"State held at the end{front_note(groups, measures.states_at_end)}")
    largest = max((held.mean for group in groups if (held := measures.states_at_end(group))), default=1.0)
    axes[1].set_xlim(0, max(axes[1].get_xlim()[1], 1.05 * largest))  # no marker on the edge
    for ax in axes:
        ax.label_outer()
    name_notable(axes[0], groups, measure.peak, scale)
    name_notable(axes[1], groups, measures.states_at_end)
    return Picture(name, figure, missing)
