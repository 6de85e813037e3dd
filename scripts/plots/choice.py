"""Which runs a picture shows when it has no room for all, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.runs import METHODS, Group, Results


def sentence_of_names(names: Sequence[str], most: int = 4) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def uncounted(results: Results) -> list[str]:
    """The sentence about runs that are in no mean; none when all are."""
    told = results.troubles()
    return [f"Not in the means: {sentence_of_names(told, 3)}."] if told else []


def headline(results: Results, most: int = 8, pruned_only: bool = False) -> list[Group]:
    """The groups that a picture with room for few shows.

    All of them if they fit. Else for each optimizer its pruned runs at one middle sparsity (state for
    AdamWPrune, movement or else magnitude for others), and the dense AdamW runs.
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
        if name == "adamw" and not pruned_only:
            chosen += [g for g in mine if g.first.method == "none"]
        chosen += at[:1] or mine[:1]
    return chosen[:most]


def shown_of(chosen: Sequence[Group], results: Results, kind: str = "") -> list[str]:
    """The sentence that says a picture shows a choice of the groups; none when it shows all."""
    of = [g for g in results.groups if g.first.method != "none" or kind != "pruned"]
    what = f"{kind} configurations".strip()
    return [f"Shown: {len(chosen)} of {len(of)} {what}."] if len(chosen) < len(of) else []
