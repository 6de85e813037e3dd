"""What the trained models need to predict, as measured: speed and memory by batch size."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from ..results.records import MeanStd, Results, SeedGroup, number
from . import run_selection, style
from .style import Picture


def measured_batches(group: SeedGroup, field: str) -> dict[float, MeanStd]:
    """Return mean and deviation of one figure of the inference test by batch size; empty where it was not measured."""
    values: dict[float, list[float | None]] = {}
    for run in group.complete_runs:
        for row in _rows(run.summary.get("inference")):
            if size := number(row.get("batch_size")):
                values.setdefault(size, []).append(number(row.get(field)))
    return {size: stat for size in sorted(values) if (stat := MeanStd.of(values[size]))}


def _rows(inference: Any) -> list[dict[str, Any]]:
    batches = inference.get("batches") if isinstance(inference, dict) else None
    return [row for row in batches if isinstance(row, dict)] if isinstance(batches, list) else []


def inference_by_batch_size(results: Results) -> Picture:
    """Draw images per second and memory at the peak over the batch size, a line for each configuration."""
    name = "inference_by_batch_size"
    results, missing = run_selection.with_memory_variants(results)
    groups = [group for group in run_selection.representative(results) if measured_batches(group, "tensor_peak")]
    if not groups:
        return Picture(name, None, ["INFERENCE_TEST=y measures speed and memory of prediction.", *missing])
    missing = [*run_selection.selection_note(groups, results), *missing]
    missing.insert(0, "Pruned weights are zeros in dense tensors: speed and memory are those of the dense model.")
    legend = style.legend_entries(groups, results)
    title = "Inference with the trained model, measured by batch size"
    figure, axes = style.new_figure(title, results, (1, 2), (6.2, 4.2), legend, missing)
    panels = (
        (axes[0], "images_per_second", 1.0, "Speed", "images per second"),
        (axes[1], "tensor_peak", 2.0**20, "Memory at the peak, counted from the tensors", "memory (MiB)"),
    )
    for ax, field, unit, heading, label in panels:
        sizes = sorted({size for group in groups for size in _draw(ax, group, results, field, unit)})
        ax.set_title(heading)
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("batch size (images)")
    return Picture(name, figure, missing)


def _draw(ax: Axes, group: SeedGroup, results: Results, field: str, unit: float) -> list[float]:
    """Draw one group's line with its deviation; return the batch sizes it has."""
    batches = measured_batches(group, field)
    means = [stat.mean / unit for stat in batches.values()]
    spreads = [(stat.sd or 0.0) / unit for stat in batches.values()]
    line = {"marker": "o", "markersize": 4} | style.line_style(group, results)
    ax.errorbar(list(batches), means, yerr=spreads if any(spreads) else None, capsize=2, **line)
    return list(batches)
