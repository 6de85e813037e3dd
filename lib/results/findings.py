"""What came out, in two or three sentences for each model, computed from the results and no stronger than they are."""

from __future__ import annotations

from collections import Counter

from .display_names import MODEL_NAMES
from .paired_tests import Difference, dense_baseline, has_validation, mean_accuracy
from .records import Results, SeedGroup

ALPHA = 0.05  # differences with a larger p are called chance


def findings(results: Results) -> list[str]:
    """Return the sentences about every model that has a complete run."""
    return [sentence for model in results.models for sentence in _of_model(results.of_model(model))]


def _of_model(results: Results) -> list[str]:
    groups = [group for group in results.groups if group.complete_runs]
    if not groups:
        return []
    name = MODEL_NAMES.get(results.models[0], results.models[0])
    return [f"{name}: {_accuracy(groups, has_validation(results))}", _memory(groups, results), _seeds(groups)]


def _accuracy(groups: list[SeedGroup], held_out: bool) -> str:
    """The most accurate configuration at the sparsity that most were pruned to, and which others are within chance."""
    levels = Counter(g.first.target_sparsity for g in groups if g.first.method != "none")
    level = max(levels, key=lambda sparsity: (levels[sparsity], sparsity), default=None)
    compared = [g for g in groups if g.first.method != "none" and g.first.target_sparsity == level] or groups
    best = max(compared, key=lambda g: mean_accuracy(g, held_out))
    split = "accuracy on held-out training images" if held_out else "test accuracy"
    where = "" if level is None else f" at {100 * level:g} % sparsity"
    stat = best.stat("validation_accuracy" if held_out else "final_accuracy")
    assert stat is not None
    text = f"the highest mean {split}{where} is {stat.text()} % ({best.label}, n={stat.n})"
    dense = dense_baseline(groups)
    if dense is not None and dense is not best and level is not None:
        text += f"; {dense.label} has {mean_accuracy(dense, held_out):.2f} %"
    others = [group for group in compared if group is not best]
    differences = {group.label: Difference.of(group, best, held_out) for group in others}
    tested = {label: difference for label, difference in differences.items() if difference is not None}
    alike = [label for label, d in tested.items() if (d.mean == 0 if d.p is None else d.p >= ALPHA)]
    if alike:
        text += f". Not told apart from it (paired by seed, p ≥ {ALPHA:g}): {_names(alike)}"
    elif tested and len(tested) == len(others):
        text += f". All others at this sparsity are lower (paired by seed, p < {ALPHA:g} each)"
    return text + "."


def _memory(groups: list[SeedGroup], results: Results) -> str:
    measure = results.memory_measure
    peaks = {group.label: stat.mean for group in groups if (stat := group.memory(measure))}
    states = {g.label: stat.mean for g in groups if (stat := g.state_per_prunable(at_peak=False))}
    pruned = [g for g in groups if g.first.method == "state" and not g.first.variant and g.label in states]
    parts = []
    if len(peaks) > 1 and max(peaks.values()) > min(peaks.values()):
        least, most = min(peaks, key=lambda label: peaks[label]), max(peaks, key=lambda label: peaks[label])
        saved = 100 * (1 - peaks[least] / peaks[most])
        parts.append(f"Peak memory is lowest with {least}, {saved:.1f} % below the highest ({most})")
    elif len(peaks) > 1:
        parts.append("Peak memory is the same in all configurations")
    if pruned:
        group = max(pruned, key=lambda g: g.first.target_sparsity)
        peak = group.state_per_prunable(at_peak=True)
        dense = dense_baseline(groups)
        text = f"{group.label} holds {states[group.label]:.2f} bytes of state per prunable weight at the end"
        text += f" and {peak.mean:.2f} at its peak" if peak else ""
        text += f" ({dense.label}: {states[dense.label]:.2f})" if dense and dense.label in states else ""
        parts.append(text)
    if parts:
        return "; ".join(parts) + "."
    return "One configuration: there is no memory to compare it with." if peaks else "No memory was recorded."


def _seeds(groups: list[SeedGroup]) -> str:
    counts = sorted({len(group.complete_runs) for group in groups})
    if counts == [1]:
        return "One seed each: whether a difference is more than chance cannot be said. SEEDS=5 trains enough runs."
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Seeds per configuration: {each}; p values are not corrected for the number of comparisons."


def _names(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
