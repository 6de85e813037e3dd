"""The sentences under a table: what its figures are, and which runs are special."""

from __future__ import annotations

from .display_names import MEMORY_MEASURES, METHOD_NAMES, MODES, RANKING_NAMES
from .records import Results


def remarks(results: Results) -> list[str]:
    """Return what a reader of the table has to know, the general sentences first."""
    sentences = ["Accuracy: test set, last epoch; mean ± sample standard deviation over n seeds."]
    sentences += ["The best epoch is picked on the test set: it flatters."]
    measures = {results.of_model(model).memory_measure for model in results.models}
    sentences += [f"Memory: {MEMORY_MEASURES[measure]}." for measure in sorted(measures)]
    sentences += [
        "State: what optimizer and pruning hold between steps, at its peak and at the end of the run, in bytes per "
        "prunable weight."
    ]
    sentences += ["Beaten by: how many others of the model are at least as accurate with no more memory (means)."]
    sentences += ["Sparsity: zeros among the prunable weights, and beside it among all parameters."]
    return sentences + rankings(results) + modes(results) + _special_runs(results)


def rankings(results: Results) -> list[str]:
    """Return the sentence that says how the pruning methods shared the budget among layers; none where unknown."""
    of_method: dict[str, dict[str, None]] = {}
    for run in results.runs:
        if run.ranking:
            of_method.setdefault(METHOD_NAMES.get(run.method, run.method), {})[run.ranking] = None
    used = {ranking for rankings in of_method.values() for ranking in rankings}
    if len(used) == 1:
        return [f"Ranking: {RANKING_NAMES.get(min(used), min(used))} in all pruned runs."]
    parts = [
        f"{method} {' or '.join(RANKING_NAMES.get(ranking, ranking) for ranking in names)}"
        for method, names in of_method.items()
    ]
    return [f"Ranking differs: {', '.join(parts)}; part of a difference may be the ranking's."] if parts else []


def modes(results: Results) -> list[str]:
    """Return a sentence for each mode of state pruning that occurs."""
    used = dict.fromkeys(str(run.config.get("mode")) for run in results.runs if run.method == "state")
    return [f"Mode {mode}: {MODES[mode]}." for mode in MODES if mode in used]


def _special_runs(results: Results) -> list[str]:
    sentences = []
    if any(run.has_unpruned_layers and run.method != "none" for run in results.runs):
        sentences += ["Runs that leave the first layer or the classifier whole keep more weights at the same target."]
    if any(run.synthetic for run in results.runs):
        sentences += ["Synthetic images: their accuracy says nothing about real data."]
    for run in results.runs:
        if planned := run.extended_from_epochs:
            sentences.append(
                f"{run.name}: planned for {planned} epochs and trained further; not the same as a run planned so long."
            )
    if torn := sum(run.dropped for run in results.runs):
        lines = "1 torn line was" if torn == 1 else f"{torn} torn lines were"
        sentences.append(f"{lines} left out of metrics and memory samples.")
    return sentences
