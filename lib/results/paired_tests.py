"""Differences between configurations, paired by seed: what a comparison over several seeds can claim.

Runs of one seed share initial weights and order of images, so the difference of two of them varies less than either.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .display_names import MODEL_NAMES
from .records import Results, RunRecord, SeedGroup
from .text_table import GAP

HEADINGS = ("configuration", "target %", "n", "accuracy %", "minus dense", "p", "minus state", "p")
TEXT_COLUMNS = {0}
LEAST_NEEDED = (7, 5, 6, 2)  # what a narrow terminal goes without, in this order


@dataclass(frozen=True)
class Difference:
    """Mean and sample standard deviation of n differences, and p of the two-sided paired t-test that they are none."""

    n: int
    mean: float
    sd: float
    p: float | None

    @classmethod
    def of(cls, group: SeedGroup, baseline: SeedGroup, held_out: bool) -> Difference | None:
        """Return the accuracy of `group` minus that of `baseline` over the seeds that both have, None below two."""
        a, b = (
            {run.seed: v for run in g.complete_runs if (v := accuracy_of(run, held_out)) is not None}
            for g in (group, baseline)
        )
        values = [round(a[seed] - b[seed], 9) for seed in a if seed in b]  # equal differences are to be equal
        if group is baseline or len(values) < 2:
            return None
        mean, sd = statistics.fmean(values), statistics.stdev(values)
        return cls(len(values), mean, sd, _p(mean, sd, len(values)))

    def texts(self) -> tuple[str, str]:
        p = GAP if self.p is None else "<0.001" if self.p < 0.001 else f"{self.p:.3f}"
        return f"{self.mean:+.2f} ± {self.sd:.2f}", p


def _p(mean: float, sd: float, n: int) -> float | None:
    """Two-sided p of Student's t-test of n paired differences; None where they are all the same."""
    if sd == 0.0:
        return None
    from scipy.special import stdtr

    return float(2 * stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


def accuracy_of(run: RunRecord, held_out: bool) -> float | None:
    """Return the accuracy of the last epoch, in percent, on the images held out or else on the test set."""
    return run.validation_accuracy if held_out else run.final_accuracy


def has_validation(results: Results) -> bool:
    """Return whether every complete run has an accuracy on held-out images, so that choices can be made by it."""
    complete = [run for run in results.runs if run.is_complete]
    return bool(complete) and all(run.validation_accuracy is not None for run in complete)


def dense_baseline(groups: Sequence[SeedGroup]) -> SeedGroup | None:
    """Return the plain dense runs to compare with: AdamW's, else AdamWPrune's (which are the same), else any."""
    dense = [g for g in groups if g.first.method == "none" and not g.first.variant and g.complete_runs]
    order = {"adamw": 0, "adamwprune": 1}
    return min(dense, key=lambda g: order.get(g.first.optimizer, 2), default=None)


def state_baseline(groups: Sequence[SeedGroup], sparsity: float) -> SeedGroup | None:
    """Return AdamWPrune's plain state pruning at this sparsity."""
    found = (g for g in groups if g.first.method == "state" and not g.first.variant and g.complete_runs)
    return next((g for g in found if g.first.target_sparsity == sparsity), None)


def rows(results: Results) -> list[list[str]]:
    """Return the table of one model's groups, by sparsity and then by accuracy; empty where no difference is paired."""
    held_out = has_validation(results)
    groups = [g for g in results.groups if g.complete_runs]
    dense = dense_baseline(groups)
    table, paired = [], False
    for group in sorted(groups, key=lambda g: (g.first.target_sparsity, -mean_accuracy(g, held_out))):
        accuracies = [v for run in group.complete_runs if (v := accuracy_of(run, held_out)) is not None]
        if not accuracies:
            continue
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        cells = [group.configuration, f"{100 * group.first.target_sparsity:g}" if group.first.method != "none" else GAP]
        cells += [str(len(accuracies)), f"{statistics.fmean(accuracies):.2f}{spread}"]
        for baseline in (dense, state_baseline(groups, group.first.target_sparsity)):
            difference = Difference.of(group, baseline, held_out) if baseline else None
            cells += difference.texts() if difference else (GAP, GAP)
            paired |= difference is not None
        table.append(cells)
    return table if paired else []


def mean_accuracy(group: SeedGroup, held_out: bool) -> float:
    values = [v for run in group.complete_runs if (v := accuracy_of(run, held_out)) is not None]
    return statistics.fmean(values) if values else 0.0


def tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    """Return a heading and the rows for every model that has any."""
    found = []
    for model in results.models:
        of_model = results.of_model(model)
        split = "held-out training images" if has_validation(of_model) else "test set"
        if table := rows(of_model):
            found.append((f"{MODEL_NAMES.get(model, model)}: differences paired by seed, {split}, last epoch", table))
    return found


REMARK = (
    "Differences: mean ± sample standard deviation over the seeds that both have; p: two-sided paired t-test, not "
    "corrected for the number of comparisons. Dense: AdamW without pruning, where it was trained; state: AdamWPrune's "
    "plain state pruning at the same sparsity."
)
