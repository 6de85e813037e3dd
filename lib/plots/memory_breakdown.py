"""Memory by category: what training holds, at its peak and at its end, and what inference needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ..results.display_names import CATEGORIES
from ..results.records import MeanStd, Results, RunRecord, SeedGroup, number
from . import measures, run_selection, style
from .style import Picture


def _stack(ax: Axes, row: float, memory: dict[str, float], scale: float) -> float:
    left = 0.0
    for category in CATEGORIES:
        if category in memory:
            ax.barh(
                row, memory[category] / scale, left=left / scale, height=0.72, color=style.CATEGORY_COLOURS[category]
            )
            left += memory[category]
    return left


def category_legend(names: Sequence[str] = CATEGORIES) -> style.Legend:
    return [[Patch(color=style.CATEGORY_COLOURS[name], label=name.replace("_", " ")) for name in names]]


def _mean_memory(group: SeedGroup, which: Callable[[RunRecord], dict[str, float]]) -> dict[str, float]:
    rows = [which(run) for run in group.complete_runs]
    shared = [c for c in CATEGORIES if rows and all(c in row for row in rows)]
    return {c: float(np.mean([row[c] for row in rows])) for c in shared}


def memory_by_category(results: Results) -> Picture:
    """Draw stacked bytes of each category at the peak, and the states alone, at their peak and at the end."""
    name = "memory_by_category"
    results, missing = run_selection.with_memory_variants(results)
    groups = [g for g in run_selection.representative(results, 14) if _mean_memory(g, RunRecord.memory_at_peak)]
    missing = [*run_selection.selection_note(groups, results), *missing]
    if not groups:
        return Picture(name, None, ["No run has recorded its bytes by category.", *missing])
    peaks = [_mean_memory(g, RunRecord.memory_at_peak) for g in groups]
    predicted = [MeanStd.of(number(run.summary.get("memory_predicted")) for run in g.complete_runs) for g in groups]
    if not any(predicted):
        missing.append("There is no predicted peak for these runs.")
    else:
        missing.insert(
            0,
            "Bars add the peaks of the categories, which come at different moments; ◆ predicted: the same categories "
            "at the one moment that holds most of them together.",
        )
    unit, scale = style.bytes_unit(sum(peak.values()) for peak in peaks)
    title = "Memory of training by category: bytes counted from the tensors"
    size = (6.2, 1.4 + 0.34 * len(groups))
    legend = category_legend([c for c in CATEGORIES if any(c in peak for peak in peaks)])
    figure, axes = style.new_figure(title, results, (1, 2), size, legend, missing, sharey=True)
    rows = range(len(groups))[::-1]
    for row, group, peak, guess in zip(rows, groups, peaks, predicted, strict=True):
        total = _stack(axes[0], row, peak, scale)
        axes[0].annotate(f" {total / scale:,.2f}", (total / scale, row), va="center", fontsize=8.5)
        if guess:
            axes[0].plot(
                guess.mean / scale, row, color=style.INK, marker="d", markersize=7, markeredgecolor="white",
                linestyle="none", zorder=5,
            )  # fmt: skip
        _states_row(axes[1], row, group)
    axes[0].set_yticks(rows, [group.label for group in groups])
    axes[0].set_title("Peak of each category" + (" (◆ predicted)" if any(predicted) else ""))
    axes[1].set_title("States at the end (bar) and at their peak (line)")
    axes[0].set_xlabel(f"memory ({unit})")
    axes[1].set_xlabel("optimizer + pruning state (bytes per prunable weight)")
    for ax, room in zip(axes, (1.1, 1.4), strict=True):  # for the numbers beside the bars
        ax.set_xlim(right=room * ax.get_xlim()[1])
    for ax in axes:
        ax.grid(axis="y", visible=False)
    return Picture(name, figure, missing)


def _states_row(ax: Axes, row: float, group: SeedGroup) -> None:
    prunable = MeanStd.of(number(run.summary.get("prunable")) for run in group.complete_runs)
    end = _mean_memory(group, RunRecord.memory_at_end)
    if prunable is None or "optimizer_state" not in end:
        ax.annotate(" not recorded", (0, row), va="center", fontsize=8.5, color=style.FAINT)
        return
    states: dict[str, float] = {c: end[c] for c in ("optimizer_state", "pruning_state") if c in end}
    total = _stack(ax, row, states, prunable.mean) / prunable.mean
    largest = measures.states_at_peak(group)
    right = max(total, largest.mean if largest else 0.0)
    if largest and largest.mean > 1.01 * total:
        ax.plot([largest.mean] * 2, [row - 0.36, row + 0.36], color=style.INK, linewidth=1.6)
        ax.hlines(row, total, largest.mean, color="#8b949e", linewidth=0.9, linestyle=":")
    most = f" (peak {largest.mean:.2f})" if largest and largest.mean > 1.01 * total else ""
    ax.annotate(f"  {total:.2f}{most}", (right, row), va="center", fontsize=8.5)


def train_vs_inference(results: Results) -> Picture:
    """Draw what training holds at its peak against what the trained model needs to predict."""
    name = "train_vs_inference_memory"
    results, missing = run_selection.with_memory_variants(results)
    groups = [g for g in run_selection.representative(results, 14) if _mean_memory(g, RunRecord.memory_at_peak)]
    missing = [*run_selection.selection_note(groups, results), *missing]
    if not groups:
        return Picture(name, None, ["No run has recorded its bytes by category.", *missing])
    peaks = [_mean_memory(g, RunRecord.memory_at_peak) for g in groups]
    unit, scale = style.bytes_unit(sum(peak.values()) for peak in peaks)
    held = [inference_bytes(group, peak) for group, peak in zip(groups, peaks, strict=True)]
    if not all("activations" in memory for memory in held):
        missing.insert(0, "Inference: dense weights and buffers only; INFERENCE_TEST=y measures the forward pass.")
    else:
        missing.insert(0, "Inference: of the dense model, at the largest measured batch that is not above training's.")
    title = "Training against inference: bytes counted from the tensors"
    legend = category_legend([c for c in CATEGORIES if any(c in peak for peak in peaks)])
    figure, (ax,) = style.new_figure(title, results, (1, 1), (9.5, 1.4 + 0.5 * len(groups)), legend, missing)
    rows = range(len(groups))[::-1]
    for row, peak, needed in zip(rows, peaks, held, strict=True):
        for shift, memory, word in ((0.19, peak, "training"), (-0.19, needed, "inference")):
            left = 0.0
            for category in [c for c in CATEGORIES if c in memory]:
                ax.barh(
                    row + shift, memory[category] / scale, 0.33, left / scale, color=style.CATEGORY_COLOURS[category]
                )
                left += memory[category]
            ax.annotate(f"  {left / scale:,.2f} {word}", (left / scale, row + shift), va="center", fontsize=8.5)
    ax.set_yticks(rows, [group.label for group in groups])
    ax.set_xlabel(f"memory ({unit}), counted from the tensors")
    ax.grid(axis="y", visible=False)
    ax.set_xlim(right=1.16 * ax.get_xlim()[1])
    return Picture(name, figure, missing)


def inference_bytes(group: SeedGroup, peak: dict[str, float]) -> dict[str, float]:
    """Return the bytes that a prediction needs: weights, buffers, and what a measured forward pass held beyond them."""
    held = {c: peak[c] for c in ("weights", "buffers") if c in peak}
    measured = MeanStd.of(_measured_inference(run) for run in group.complete_runs)
    return held | ({"activations": max(measured.mean - sum(held.values()), 0.0)} if measured else {})


def _measured_inference(run: RunRecord) -> float | None:
    """Peak of the largest measured batch that is not larger than the batches of training, in bytes."""
    most = number(run.config.get("batch_size")) or float("inf")
    rows = (run.summary.get("inference") or {}).get("batches") or []
    known = [(size, number(row.get("tensor_peak"))) for row in rows if (size := number(row.get("batch_size")))]
    return max(((size, held) for size, held in known if held is not None and size <= most), default=(0, None))[1]
