"""What changed from one results folder to another, group by group."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from .display_names import MEMORY_MEASURES, MIB, MODEL_NAMES
from .load import load
from .records import MeanStd, Results
from .text_table import GAP, print_sentences, print_table, shortened


def change(before: MeanStd | None, after: MeanStd | None) -> str:
    """Return the mean after minus that before; with seeds on both sides ± the standard error of the difference."""
    if before is None or after is None:
        return GAP
    difference = f"{after.mean - before.mean:+.2f}"
    if before.sd is None or after.sd is None:
        return difference
    return f"{difference} ± {(before.sd**2 / before.n + after.sd**2 / after.n) ** 0.5:.2f}"


def comparison(a: Results, b: Results) -> tuple[list[list[str]], list[str]]:
    """Return rows for the groups in both folders, and sentences for what is in one only or set differently."""
    groups_a, groups_b = ({group.key: group for group in r.groups} for r in (a, b))
    rows, remarks = [], []
    for key in [key for key in groups_a if key in groups_b]:
        before, after = groups_a[key], groups_b[key]
        figures = {r.of_model(key[0]).memory_measure for r in (a, b)}
        figure = figures.pop() if len(figures) == 1 else "by_category"
        accuracy = before.stat("final_accuracy"), after.stat("final_accuracy")
        memory, seconds = (before.memory(figure), after.memory(figure)), (before.stat("seconds"), after.stat("seconds"))
        rows.append(
            [
                f"{MODEL_NAMES.get(key[0], key[0])} {before.label}",
                *(f"{stat.text()} (n={stat.n})" if stat else GAP for stat in accuracy),
                change(*accuracy),
                *(f"{stat.mean / MIB:,.2f}" if stat else GAP for stat in memory),
                _percent(*memory),
                *(f"{stat.mean:,.1f}" if stat else GAP for stat in seconds),
                _percent(*seconds),
            ]
        )
    for groups, others, name in ((groups_a, groups_b, a.name), (groups_b, groups_a, b.name)):
        remarks += [f"only in {name}: {key[0]} {group.label}" for key, group in groups.items() if key not in others]
    return rows, _different_settings(groups_a, groups_b) + remarks


def _percent(before: MeanStd | None, after: MeanStd | None) -> str:
    return f"{100 * (after.mean / before.mean - 1):+.1f} %" if before and after and before.mean else GAP


def _different_settings(groups_a: dict, groups_b: dict) -> list[str]:
    """One sentence per differing setting, however many runs it differs in."""
    seen: Counter[str] = Counter()
    for key in groups_a.keys() & groups_b.keys():
        before, after = groups_a[key].first.config, groups_b[key].first.config
        for name in (before.keys() | after.keys()) - {"seed", "seed_in_name"}:
            if before.get(name) != after.get(name):
                seen[f"{name}: {before.get(name)} in A, {after.get(name)} in B"] += 1
    return [f"{sentence} ({count} group{'s' * (count != 1)})" for sentence, count in sorted(seen.items())]


def compare(path_a: Path, path_b: Path) -> int:
    a, b = load(path_a), load(path_b)
    for path, results in ((path_a, a), (path_b, b)):
        if not results.runs:
            print(f"{path}: no runs in this folder", file=sys.stderr)
            return 1
    rows, remarks = comparison(a, b)
    print_sentences([f"A = {a.name}", f"B = {b.name}", ""])
    headings = (
        "run", "accuracy % A", "B", "B - A", "memory MiB A", "B", "change", "seconds A", "B", "change"
    )  # fmt: skip
    if rows:
        print_table(headings, rows, {0}, (9, 8, 7, 5, 4))
        print("\nAccuracy: last epoch; B - A ± its standard error, where both sides have seeds.")
        figures = {MEMORY_MEASURES[r.of_model(m).memory_measure] for r in (a, b) for m in r.models}
        print("Memory: " + " against ".join(sorted(figures)) + ".")
    else:
        print("no model, optimizer, pruning method and sparsity stands in both")
    if remarks:
        print()
        print_sentences(shortened(remarks))
    return 0
