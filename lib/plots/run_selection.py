"""Which runs a picture shows when it has no room for all, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.display_names import METHODS
from ..results.records import Group, Results, Stat
from . import measures

ALIKE = 0.01  # memory that differs by less is called the same


def sentence_of_names(names: Sequence[str], most: int = 4) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def uncounted(results: Results) -> list[str]:
    """The sentence about runs that are in no mean; none when all are."""
    told = results.troubles()
    return [f"Not in the means: {sentence_of_names(told, 3)}."] if told else []


def of_memory(results: Results) -> tuple[Results, list[str]]:
    """What pictures of memory show: the plain runs, and the variants whose memory is another than theirs.

    With the sentences about what is not shown and what is in no mean.
    """
    variants = [g for g in results.groups if g.first.variant and g.counted]
    changed = [g for g in variants if changes_memory(g, results)]
    keep = {g.key for g in changed}
    left_out = [run for g in results.groups if g.first.variant and g.key not in keep for run in g.runs]
    told = uncounted(results)
    if changed and len(changed) < len(variants):
        told.insert(0, f"Left out: {len(variants) - len(changed)} variants whose memory is that of the plain runs.")
    return results.without(left_out), told


def changes_memory(variant: Group, results: Results) -> bool:
    """Whether a variant's peak, or its states at their peak or at the end, are not those of its plain runs."""
    key = (*variant.key[:-1], "")
    plain = next((g for g in results.groups if g.key == key and g.counted), None)
    if plain is None:
        return True
    return any(_differ(*pair) for pair in zip(_held(variant, results), _held(plain, results), strict=True))


def _held(group: Group, results: Results) -> list[Stat | None]:
    peaks = [figure.peak(group) for figure in (measures.BY_CATEGORY, measures.peak(results))]
    return [*peaks, measures.states(group, at_peak=True), measures.states(group)]


def _differ(one: Stat | None, other: Stat | None) -> bool:
    return bool(one and other) and abs(one.mean - other.mean) > ALIKE * max(one.mean, other.mean)


def grown(results: Results) -> list[str]:
    """The sentence that marks runs whose training was continued beyond its plan; none where there are none."""
    names = [run.name for run in results.runs if run.summary.get("grown_from")]
    if not names:
        return []
    which = "all runs" if len(names) == len(results.runs) else sentence_of_names(names, 3)
    return [f"Planned for fewer epochs and trained further: {which}."]


def headline(results: Results, most: int = 8, pruned_only: bool = False) -> list[Group]:
    """The groups that a picture with room for few shows.

    All of them if they fit. Else for each optimizer its pruned runs at one middle sparsity (state for
    AdamWPrune, movement or else magnitude for others) with their variants, and the dense AdamW runs.
    """
    groups = [g for g in results.groups if g.counted or any(run.metrics for run in g.runs)]
    groups = [g for g in groups if not pruned_only or g.first.method != "none"]
    if len(groups) <= most:
        return groups
    levels = sorted({g.first.target_sparsity for g in groups if g.first.method != "none"})
    middle = levels[len(levels) // 2] if levels else 0.0
    chosen: list[Group] = []
    for name in dict.fromkeys(g.first.optimizer for g in groups):
        mine = [g for g in groups if g.first.optimizer == name]
        at = [g for g in mine if g.first.method != "none" and g.first.target_sparsity == middle]
        at.sort(key=lambda g: METHODS.index(g.first.method) if g.first.method in METHODS else 9, reverse=True)
        plain, variants = ([g for g in at if bool(g.first.variant) == wanted] for wanted in (False, True))
        if name == "adamw" and not pruned_only:
            chosen += [g for g in mine if g.first.method == "none"]
        chosen += [*plain[:1], *variants] or mine[:1]
    return chosen[-most:]  # AdamWPrune, which this is about, is last


def shown_of(chosen: Sequence[Group], results: Results, kind: str = "") -> list[str]:
    """The sentence that says a picture shows a choice of the groups; none when it shows all."""
    of = [g for g in results.groups if g.first.method != "none" or kind != "pruned"]
    what = f"{kind} configurations".strip()
    return [f"Shown: {len(chosen)} of {len(of)} {what}."] if len(chosen) < len(of) else []
