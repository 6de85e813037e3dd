"""The table of a results folder: one record for each group of runs, and the columns that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .display_names import MIB, MODEL_NAMES, OPTIMIZER_NAMES, RANKING_NAMES, method_name
from .pareto import count_beaten_by
from .records import MeanStd, Results, SeedGroup
from .text_table import GAP

Record = dict[str, Any]


def accuracy_per_100_mib(group: SeedGroup, measure: str) -> MeanStd | None:
    """Return percent of test accuracy for each 100 MiB of `measure`, run by run."""
    pairs = [(run.final_accuracy, run.memory(measure)) for run in group.complete_runs]
    return MeanStd.of(a / (m / (100 * MIB)) for a, m in pairs if a is not None and m)


def records(results: Results) -> list[Record]:
    """Return one dict per group of runs (a line of summary.csv); None where there is nothing to say."""
    lines = []
    for model in results.models:
        of_model = results.of_model(model)
        measure = of_model.memory_measure
        of_groups = [_record(group, measure) for group in of_model.groups]
        known = [line for line in of_groups if None not in (line["memory_mib"], line["accuracy_mean"])]
        points = [(line["memory_mib"], line["accuracy_mean"]) for line in known]
        for line, count in zip(known, count_beaten_by(points), strict=True):
            line["beaten_by"] = count
        lines += of_groups
    return lines


def _record(group: SeedGroup, measure: str) -> Record:
    run, memory = group.first, group.memory(measure)
    line: Record = {
        "model": run.model,
        "optimizer": run.optimizer,
        "pruning_method": run.method,
        "target_sparsity": run.target_sparsity,
        "variant": run.variant,
        "mode": run.config.get("mode"),
        "dataset": run.config.get("dataset"),
        "runs": len(group.runs),
        "n": len(group.complete_runs),
    }
    for name, what in (
        ("accuracy", "final_accuracy"),
        ("validation_accuracy", "validation_accuracy"),
        ("best_epoch_accuracy", "best_accuracy"),
    ):
        stat = group.stat(what)
        line[f"{name}_mean"] = stat and stat.mean
        line[f"{name}_sd"] = stat and stat.sd
    on_gpu = measure == "allocator_peak"  # across batch sizes and activations the ratio says nothing of an optimizer
    for name, stat in (
        ("final_sparsity", group.stat("final_sparsity")),
        ("final_sparsity_total", group.stat("final_sparsity_total")),
        ("memory_mib", memory and MeanStd(memory.n, memory.mean / MIB, None)),
        ("state_bytes_per_weight", group.stat("state_bytes_per_weight")),
        ("seconds", group.stat("seconds")),
        ("accuracy_per_100_mib", accuracy_per_100_mib(group, measure) if on_gpu else None),
    ):
        line[name] = stat and stat.mean
    line["memory_figure"] = measure if memory else None
    states = Counter(r.state for r in group.runs)
    line["states"] = ", ".join(f"{count} {state}" for state, count in states.items())
    line["not_counted"] = "; ".join(f"{r.name}: {r.exclusion_reason}" for r in group.runs if not r.is_complete)
    line["ranking"] = run.ranking or None
    for moment in ("peak", "end"):
        stat = group.state_per_prunable(at_peak=moment == "peak")
        line[f"state_{moment}_bytes_per_prunable"] = stat and stat.mean
    line["beaten_by"] = None
    return line


@dataclass(frozen=True)
class Column:
    """One column: its heading, its text for a record, and the field it sorts by (none: by its text)."""

    heading: str
    text: Callable[[Record], str]
    field: str = ""
    is_text: bool = False


def _figure(heading: str, field: str, digits: int, scale: float = 1.0) -> Column:
    def text(line: Record) -> str:
        return GAP if line[field] is None else f"{scale * line[field]:,.{digits}f}"

    return Column(heading, text, field)


def _accuracy(heading: str, name: str) -> Column:
    def text(line: Record) -> str:
        mean, sd = line[f"{name}_mean"], line[f"{name}_sd"]
        return GAP if mean is None else f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"

    return Column(heading, text, f"{name}_mean")


def _words(heading: str, text: Callable[[Record], str]) -> Column:
    return Column(heading, text, is_text=True)


COLUMNS = (
    _words("model", lambda line: MODEL_NAMES.get(line["model"], str(line["model"]))),
    _words("optimizer", lambda line: OPTIMIZER_NAMES.get(line["optimizer"], str(line["optimizer"]))),
    _words("pruning", lambda line: method_name(line["pruning_method"], line["variant"], line["mode"])),
    Column(
        "target %",
        lambda line: GAP if line["pruning_method"] == "none" else f"{100 * line['target_sparsity']:g}",
        "target_sparsity",
    ),
    _words("ranking", lambda line: RANKING_NAMES.get(line["ranking"], str(line["ranking"] or GAP))),
    _accuracy("accuracy % (last epoch)", "accuracy"),
    Column("n", lambda line: str(line["n"]), "n"),
    _accuracy("best epoch %", "best_epoch_accuracy"),
    _figure("sparsity %", "final_sparsity", 2, 100),
    _figure("sparsity of all parameters %", "final_sparsity_total", 2, 100),
    _figure("memory MiB", "memory_mib", 2),
    _figure("state at peak, bytes per weight", "state_peak_bytes_per_prunable", 2),
    _figure("state at end, bytes per weight", "state_end_bytes_per_prunable", 2),
    _figure("seconds", "seconds", 1),
    _figure("beaten by", "beaten_by", 0),
    _figure("acc. per 100 MiB", "accuracy_per_100_mib", 1),
    _words("runs", lambda line: line["states"]),
)

#: What a narrow terminal goes without, in this order; the model only where there is one.
LEAST_NEEDED = (
    "runs", "acc. per 100 MiB", "best epoch %", "sparsity of all parameters %", "model", "seconds", "ranking", "n",
    "sparsity %", "beaten by", "state at peak, bytes per weight", "state at end, bytes per weight",
)  # fmt: skip


def columns(lines: Sequence[Record]) -> list[Column]:
    """Return the columns for these records: without the ranking where no run recorded it, and without accuracy per
    100 MiB where the memory is not a GPU's."""
    absent = {
        heading
        for heading, field in (("ranking", "ranking"), ("acc. per 100 MiB", "accuracy_per_100_mib"))
        if all(line[field] is None for line in lines)
    }
    return [column for column in COLUMNS if column.heading not in absent]
