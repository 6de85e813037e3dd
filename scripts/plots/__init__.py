"""Pictures of results: pure functions from results to figures, under names that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lib.results.records import Results
from scripts.plots import categories, curves, memory, overview, pruned, sparsities, tradeoffs, variants
from scripts.plots.look import Picture, style

#: What is drawn for each model, in the order in which reports show it.
PICTURES: tuple[Callable[[Results], Picture], ...] = (
    curves.accuracy_per_epoch,
    curves.sparsity_per_epoch,
    sparsities.accuracy_vs_sparsity,
    tradeoffs.memory_vs_accuracy,
    overview.training_memory_comparison,
    memory.memory_comparison,
    memory.memory_timeline,
    categories.memory_by_category,
    categories.train_vs_inference,
    pruned.layer_sparsity,
    pruned.importance_histograms,
)

#: Those of memory show variants too, where these change it; the others the plain runs alone.
OF_MEMORY = frozenset(
    {
        tradeoffs.memory_vs_accuracy, overview.training_memory_comparison, memory.memory_comparison,
        memory.memory_timeline, categories.memory_by_category, categories.train_vs_inference,
    }
)  # fmt: skip

#: And for each optimizer of the model.
PER_OPTIMIZER: tuple[Callable[[Results, str], Picture], ...] = (
    curves.model_comparison,
    curves.accuracy_evolution,
)


def draw(results: Results) -> Iterator[Picture]:
    """Every picture of one model's results. A picture is drawn when it is asked for and can be dropped after.

    Variants are compared in a picture of their own.
    """
    everything, results = results, results.plain()
    with style():
        if everything.study:
            yield variants.variants(everything)
        for picture in PICTURES:
            yield picture(everything if picture in OF_MEMORY else results)
        for optimizer in dict.fromkeys(run.optimizer for run in results.runs):
            for of_one in PER_OPTIMIZER:
                yield of_one(results, optimizer)
