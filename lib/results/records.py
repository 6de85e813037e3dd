"""Runs, groups of runs over seeds, and whole results: the records that tables and pictures are made from."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .display_names import CATEGORIES, DEFAULT_RANKING, OPTIMIZER_NAMES, method_name

LARGEST = 1e18  # of whatever unit: nothing that a run measures is larger


def number(value: Any) -> float | None:
    """Return `value` as a float; None for null, NaN, booleans, text and sizes beyond LARGEST: no measurement."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None


def known_bytes(memory: Any) -> dict[str, float]:
    """Return the categories that a `memory` record holds; what was not measured is absent, not zero."""
    record = memory if isinstance(memory, dict) else {}
    return {c: float(record[c]) for c in CATEGORIES if number(record.get(c)) is not None}


@dataclass(frozen=True)
class RunRecord:
    """One run folder. Whatever could not be read is empty; `state` says how the run ended."""

    name: str
    config: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    importance: list[dict[str, Any]] = field(default_factory=list)
    path: Path | None = None
    dropped: int = 0  # torn lines in metrics.jsonl and gpu.jsonl

    @property
    def model(self) -> str:
        return str(self.config.get("model", "?"))

    @property
    def optimizer(self) -> str:
        return str(self.config.get("optimizer", "?"))

    @property
    def method(self) -> str:
        return str(self.config.get("pruning_method", "none"))

    @property
    def target_sparsity(self) -> float:
        return number(self.config.get("target_sparsity")) or 0.0

    @property
    def variant(self) -> str:
        """The name of the settings it differs by from the plain run; empty for the plain run."""
        return str(self.config.get("variant") or "")

    @property
    def seed(self) -> int:
        return int(number(self.config.get("seed")) or 0)

    @property
    def ranking(self) -> str:
        """How the layers of a pruned run share its budget; empty for dense runs and where it is not recorded."""
        return "" if self.method == "none" else str(self.config.get("ranking") or "")

    @property
    def synthetic(self) -> bool:
        return self.config.get("dataset") == "synthetic" or bool(self.summary.get("synthetic"))

    @property
    def has_unpruned_layers(self) -> bool:
        """Whether the first layer or the classifier is not pruned: such a run keeps more weights at the same target."""
        return False in (self.config.get("prune_first"), self.config.get("prune_last"))

    @property
    def state(self) -> str:
        return str(self.status.get("state", "queued"))

    @property
    def is_complete(self) -> bool:
        """Whether the run enters means: it is done and has a final accuracy."""
        return self.state == "done" and self.final_accuracy is not None

    @property
    def exclusion_reason(self) -> str:
        """Why the run is kept out of means, in words; empty when it is in them."""
        if self.is_complete:
            return ""
        reason = self.status.get("reason")
        if self.state == "done":
            reason = reason or "no final accuracy was recorded"
        elif not reason and self.metrics and number(self.status.get("epochs")):
            reason = f"after epoch {len(self.metrics)} of {self.status['epochs']}"
        return f"{self.state}: {reason}" if reason else self.state

    @property
    def final_accuracy(self) -> float | None:
        """Test accuracy of the last epoch in percent: from the summary, or else from the metrics."""
        value = number(self.summary.get("final_accuracy"))
        if value is None and not self.summary and self.metrics:
            value = number(self.metrics[-1].get("test_accuracy"))
        return value

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy of the last epoch in percent on the training images held out; None where there are none."""
        return number(self.metrics[-1].get("validation_accuracy")) if self.metrics else None

    def column(self, name: str) -> list[float]:
        """Return one field of the metrics, an entry per epoch; NaN where it is absent."""
        values = (number(row.get(name)) for row in self.metrics)
        return [math.nan if value is None else value for value in values]

    def best_accuracy(self) -> float | None:
        """Return the test accuracy of the best epoch in percent: picked on the test set, only shown with that label."""
        seen = [v for v in self.column("test_accuracy") if math.isfinite(v)]
        return number(self.summary.get("best_accuracy")) or max(seen, default=None)

    def final_sparsity(self) -> float | None:
        value = number(self.summary.get("final_sparsity"))
        return value if value is not None or not self.metrics else number(self.metrics[-1].get("sparsity"))

    def final_sparsity_total(self) -> float | None:
        """Return the share of zeros among all parameters; unknown where an older version ran."""
        return number(self.summary.get("final_sparsity_total"))

    @property
    def extended_from_epochs(self) -> Any:
        """The number of epochs that was planned, where training was continued beyond it (`grown_from` in files)."""
        return self.summary.get("extended_from_epochs") or self.summary.get("grown_from")

    def seconds(self) -> float | None:
        return number(self.summary.get("seconds"))

    @cached_property
    def memory_rows(self) -> list[dict[str, float]]:
        """Bytes by category at the end of each epoch that recorded them; absent categories are absent."""
        rows = [row["memory"] for row in self.metrics if isinstance(row.get("memory"), dict)]
        return [known_bytes(row) for row in rows if known_bytes(row)]

    def memory_at_peak(self) -> dict[str, float]:
        """Return the most bytes that each category held; of an unfinished run those at the end of its largest epoch."""
        peak = known_bytes(self.summary.get("memory_peak"))
        return peak or max(self.memory_rows, key=lambda row: sum(row.values()), default={}) or self.memory_at_end()

    def memory_at_end(self) -> dict[str, float]:
        return known_bytes(self.summary.get("memory")) or (self.memory_rows or [{}])[-1]

    def memory(self, figure: str) -> float | None:
        """Return peak memory in bytes as `figure` (a key of MEMORY_MEASURES) counts it."""
        if figure == "allocator_peak":
            records = [row["memory"] for row in self.metrics if isinstance(row.get("memory"), dict)]
            seen = [number(record.get("allocator_peak")) for record in records]
            known = [v for v in (number(self.summary.get("allocator_peak")), *seen) if v is not None]
            return max(known, default=None)
        return sum(self.memory_at_peak().values()) or None

    def state_per_prunable(self, at_peak: bool) -> float | None:
        """Return optimizer and pruning state in bytes per prunable weight, at its peak or at the end of the run."""
        held = self.memory_at_peak() if at_peak else self.memory_at_end()
        prunable = number(self.summary.get("prunable"))
        if not prunable or "optimizer_state" not in held:
            return None
        return (held["optimizer_state"] + held.get("pruning_state", 0.0)) / prunable

    def state_bytes_per_weight(self) -> float | None:
        """Return optimizer and pruning state at the end of the run, in bytes per parameter."""
        end, parameters = self.memory_at_end(), number(self.summary.get("parameters"))
        if not parameters or "optimizer_state" not in end:
            return None
        return (end["optimizer_state"] + end.get("pruning_state", 0.0)) / parameters


def key_of(run: RunRecord) -> tuple[str, str, str, float, str]:
    """Return what the runs of a group have in common: everything but the seed."""
    return run.model, run.optimizer, run.method, run.target_sparsity, run.variant


@dataclass(frozen=True)
class MeanStd:
    """n values: mean, and sample standard deviation (None below two values)."""

    n: int
    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> MeanStd | None:
        known = [v for v in values if v is not None and math.isfinite(v)]
        if not known:
            return None
        return cls(len(known), statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)

    def text(self, digits: int = 2) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True)
class SeedGroup:
    """The runs that differ in their seed only."""

    runs: tuple[RunRecord, ...]
    names_ranking: bool = False  # whether labels say which ranking was used

    @property
    def first(self) -> RunRecord:
        return self.runs[0]

    @property
    def complete_runs(self) -> tuple[RunRecord, ...]:
        return tuple(run for run in self.runs if run.is_complete)

    @property
    def key(self) -> tuple[str, str, str, float, str]:
        return key_of(self.first)

    @property
    def label(self) -> str:
        return f"{OPTIMIZER_NAMES.get(self.first.optimizer, self.first.optimizer)} {self.method_label}"

    @property
    def method_label(self) -> str:
        name = self.method_name
        return name if self.first.method == "none" else f"{name} {100 * self.first.target_sparsity:g} %"

    @property
    def method_name(self) -> str:
        """The method with its variant, or else its mode and, where it is named, its ranking."""
        run = self.first
        return method_name(run.method, run.variant, run.config.get("mode"), run.ranking if self.names_ranking else "")

    @property
    def configuration(self) -> str:
        """The label without the sparsity."""
        return self.label.removesuffix(f" {100 * self.first.target_sparsity:g} %")

    def stat(self, name: str) -> MeanStd | None:
        """Return mean and deviation, over the complete runs, of a RunRecord attribute or method without arguments."""
        values = (getattr(run, name) for run in self.complete_runs)
        return MeanStd.of(value() if callable(value) else value for value in values)

    def memory(self, figure: str) -> MeanStd | None:
        return MeanStd.of(run.memory(figure) for run in self.complete_runs)

    def state_per_prunable(self, at_peak: bool) -> MeanStd | None:
        return MeanStd.of(run.state_per_prunable(at_peak) for run in self.complete_runs)


@dataclass(frozen=True)
class Results:
    """A results folder: its runs in a fixed order and what is known about the machine."""

    name: str
    runs: tuple[RunRecord, ...]
    environment: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    planned: tuple[str, ...] = ()  # run ids of the matrix, where it is known
    overrides: dict[str, Any] = field(default_factory=dict)  # the NAME=value it was started with
    variants_left_out: int = 0  # configurations that `without_variants` has taken out
    chosen_by: str = ""  # `defconfig-NAME`, `menuconfig` or a YAML file; unknown in folders of older versions

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def preset(self) -> str:
        return re.sub(r"-\d{8}-\d{6}.*$", "", self.name)

    def of_model(self, model: str) -> Results:
        runs = tuple(run for run in self.runs if run.model == model)
        planned = tuple(name for name in self.planned if name.startswith(f"{model}_"))
        return replace(self, runs=runs, planned=planned)

    @property
    def is_study(self) -> bool:
        """Whether this is a study of settings (variants, or a preset named so) and not a model's main comparison."""
        return "-study-" in self.preset or any(run.variant for run in self.runs)

    def without(self, left_out: Iterable[RunRecord]) -> Results:
        names = {run.name for run in left_out}
        runs = tuple(run for run in self.runs if run.name not in names)
        return replace(self, runs=runs, planned=tuple(name for name in self.planned if name not in names))

    def without_variants(self) -> Results:
        """Return the same without variants."""
        variants = [group for group in self.groups if group.first.variant]
        plain = self.without(run for group in variants for run in group.runs)
        return replace(plain, variants_left_out=len(variants))

    @cached_property
    def groups(self) -> list[SeedGroup]:
        by_key: dict[tuple, list[RunRecord]] = {}
        for run in self.runs:
            by_key.setdefault(key_of(run), []).append(run)
        named = not {run.ranking for run in self.runs if run.ranking} <= {DEFAULT_RANKING}
        return [SeedGroup(tuple(runs), named) for runs in by_key.values()]

    @property
    def memory_measure(self) -> str:
        """The measure that every complete run has: the allocator's peak on a GPU, else the bytes by category."""
        complete = [run for run in self.runs if run.is_complete]
        everywhere = complete and all(run.memory("allocator_peak") is not None for run in complete)
        return "allocator_peak" if everywhere else "by_category"

    def exclusions(self) -> list[str]:
        """Return one sentence for each run kept out of the means, and for each planned run without a folder."""
        sentences = [f"{run.name}: {run.exclusion_reason}" for run in self.runs if not run.is_complete]
        absent = [name for name in self.planned if name not in {run.name for run in self.runs}]
        return sentences + [f"{name}: not started" for name in absent]
