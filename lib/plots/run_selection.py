"""Which runs a picture shows when it has no room for all, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.display_names import METHODS
from ..results.records import MeanStd, Results, SeedGroup
from . import measures

ALIKE = 0.01  # memory that differs by less is called the same


def sentence_of_names(names: Sequence[str], most: int = 4) -> str:
    """Return a few of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def exclusion_note(results: Results) -> list[str]:
    """Return the sentence about runs that are in no mean; none when all are."""
    sentences = results.exclusions()
    return [f"Not in the means: {sentence_of_names(sentences, 3)}."] if sentences else []


def variants_note(results: Results) -> list[str]:
    """Return the sentence about variants that a picture of plain runs leaves out; none where there are none."""
    count = results.variants_left_out
    which = "1 variant, which stands" if count == 1 else f"{count} variants, which stand"
    return [f"Left out: {which} in variants.png."] if count else []


def with_memory_variants(results: Results) -> tuple[Results, list[str]]:
    """Return what pictures of memory show: the plain runs, and the variants whose memory is another than theirs.

    With the sentences about what is not shown and what is in no mean.
    """
    variants = [g for g in results.groups if g.first.variant and g.complete_runs]
    changed = [g for g in variants if changes_memory(g, results)]
    keep = {g.key for g in changed}
    left_out = [run for g in results.groups if g.first.variant and g.key not in keep for run in g.runs]
    sentences = exclusion_note(results)
    if alike := len(variants) - len(changed):
        which = "1 variant" if alike == 1 else f"{alike} variants"
        sentences.insert(0, f"Left out: {which} whose memory is that of the plain runs.")
    return results.without(left_out), sentences


def changes_memory(variant: SeedGroup, results: Results) -> bool:
    """Return whether a variant's peak, or its states at their peak or at the end, are not those of its plain runs."""
    key = (*variant.key[:-1], "")
    plain = next((g for g in results.groups if g.key == key and g.complete_runs), None)
    if plain is None:
        return True
    return any(_differ(*pair) for pair in zip(_held(variant, results), _held(plain, results), strict=True))


def _held(group: SeedGroup, results: Results) -> list[MeanStd | None]:
    peaks = [figure.peak(group) for figure in (measures.BY_CATEGORY, measures.peak(results))]
    return [*peaks, measures.states_at_peak(group), measures.states_at_end(group)]


def _differ(one: MeanStd | None, other: MeanStd | None) -> bool:
    if one is None or other is None:
        return False
    return abs(one.mean - other.mean) > ALIKE * max(one.mean, other.mean)


def extended(results: Results) -> list[str]:
    """Return the sentence that marks runs whose training was continued beyond its plan; none where there are none."""
    names = [run.name for run in results.runs if run.extended_from_epochs]
    if not names:
        return []
    which = "all runs" if len(names) == len(results.runs) else sentence_of_names(names, 3)
    return [f"Planned for fewer epochs and trained further: {which}."]


def representative(results: Results, most: int = 8, pruned_only: bool = False) -> list[SeedGroup]:
    """Return the groups that a picture with room for few shows.

    All of them if they fit. Else for each optimizer its pruned runs at one middle sparsity (state for
    AdamWPrune, movement or else magnitude for others) with their variants, and the dense AdamW runs.
    """
    groups = [g for g in results.groups if g.complete_runs or any(run.metrics for run in g.runs)]
    groups = [g for g in groups if not pruned_only or g.first.method != "none"]
    if len(groups) <= most:
        return groups
    levels = sorted({g.first.target_sparsity for g in groups if g.first.method != "none"})
    middle = levels[len(levels) // 2] if levels else 0.0
    chosen: list[SeedGroup] = []
    for name in dict.fromkeys(g.first.optimizer for g in groups):
        of_optimizer = [g for g in groups if g.first.optimizer == name]
        at = [g for g in of_optimizer if g.first.method != "none" and g.first.target_sparsity == middle]
        at.sort(key=lambda g: METHODS.index(g.first.method) if g.first.method in METHODS else 9, reverse=True)
        plain, variants = ([g for g in at if bool(g.first.variant) == wanted] for wanted in (False, True))
        if name == "adamw" and not pruned_only:
            chosen += [g for g in of_optimizer if g.first.method == "none"]
        chosen += [*plain[:1], *variants] or of_optimizer[:1]
    return chosen[-most:]  # AdamWPrune, which this is about, is last


def selection_note(chosen: Sequence[SeedGroup], results: Results, kind: str = "") -> list[str]:
    """Return the sentence that says a picture shows a choice of the groups; none when it shows all."""
    of = [g for g in results.groups if g.first.method != "none" or kind != "pruned"]
    what = f"{kind} configurations".strip()
    return [f"Shown: {len(chosen)} of {len(of)} {what}."] if len(chosen) < len(of) else []
