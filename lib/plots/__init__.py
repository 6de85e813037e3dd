"""Pictures of results: pure functions from results to figures, under names that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..results.records import Results
from . import (
    accuracy_vs_sparsity,
    gpu_memory,
    inference,
    layer_sparsity,
    memory_breakdown,
    memory_vs_accuracy,
    training_curves,
    training_memory,
    variants,
)
from .style import Picture, plot_style

#: What is drawn for each model, in the order in which reports show it.
PICTURES: tuple[Callable[[Results], Picture], ...] = (
    training_curves.accuracy_per_epoch,
    training_curves.sparsity_per_epoch,
    accuracy_vs_sparsity.accuracy_vs_sparsity,
    memory_vs_accuracy.memory_vs_accuracy,
    training_memory.training_memory_comparison,
    gpu_memory.memory_comparison,
    gpu_memory.memory_timeline,
    memory_breakdown.memory_by_category,
    memory_breakdown.train_vs_inference,
    inference.inference_by_batch_size,
    layer_sparsity.layer_sparsity,
    layer_sparsity.importance_histograms,
)

#: Those of memory show variants too, where these change it; the others the plain runs alone.
OF_MEMORY = frozenset(
    {
        memory_vs_accuracy.memory_vs_accuracy, training_memory.training_memory_comparison, gpu_memory.memory_comparison,
        gpu_memory.memory_timeline, memory_breakdown.memory_by_category, memory_breakdown.train_vs_inference,
        inference.inference_by_batch_size,
    }
)  # fmt: skip

#: And for each optimizer of the model.
PER_OPTIMIZER: tuple[Callable[[Results, str], Picture], ...] = (
    training_curves.model_comparison,
    training_curves.accuracy_evolution,
)


def draw(results: Results) -> Iterator[Picture]:
    """Yield every picture of one model's results, drawn when it is asked for; it can be dropped after.

    Variants are compared in a picture of their own.
    """
    everything, results = results, results.without_variants()
    with plot_style():
        if everything.is_study:
            yield variants.variants(everything)
        for picture in PICTURES:
            yield picture(everything if picture in OF_MEMORY else results)
        for optimizer in dict.fromkeys(run.optimizer for run in results.runs):
            for of_one in PER_OPTIMIZER:
                yield of_one(results, optimizer)
