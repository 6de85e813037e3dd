"""The summary of a results folder: its table in the terminal, in summary.md and in summary.csv."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..storage.files import write_atomic
from ..storage.run_dir import ResultsDir
from . import paired_tests
from .display_names import MEMORY_MEASURES, MIB, MODEL_NAMES, OPTIMIZER_NAMES, method_name
from .load import load
from .records import MeanStd, Results, SeedGroup
from .text_table import GAP, print_table, shortened

HEADINGS = (
    "model", "optimizer", "pruning", "target %", "accuracy % (last epoch)", "n", "best epoch %", "sparsity %",
    "of all %", "memory MiB", "state B/weight", "seconds", "acc. per 100 MiB", "runs",
)  # fmt: skip
TEXT_COLUMNS = {0, 1, 2, 13}  # the other columns hold numbers and are aligned to the right
LEAST_NEEDED = (13, 12, 6, 8, 0, 11, 5, 7, 10)  # what a narrow terminal goes without, in this order


def accuracy_per_100_mib(group: SeedGroup, figure: str) -> MeanStd | None:
    """Percent of test accuracy for each 100 MiB of `figure`, run by run."""
    pairs = [(run.final_accuracy, run.memory(figure)) for run in group.complete_runs]
    return MeanStd.of(a / (m / (100 * MIB)) for a, m in pairs if a is not None and m)


def records(results: Results) -> list[dict[str, Any]]:
    """One dict per group of runs (a line of summary.csv); None where there is nothing to say."""
    lines = []
    for model in results.models:
        of_model = results.of_model(model)
        figure = of_model.memory_measure
        for group in of_model.groups:
            lines.append(_record(group, figure))
    return lines


def _record(group: SeedGroup, figure: str) -> dict[str, Any]:
    run, memory = group.first, group.memory(figure)
    line: dict[str, Any] = {
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
    ):  # fmt: skip
        stat = group.stat(what)
        line[f"{name}_mean"] = stat and stat.mean
        line[f"{name}_sd"] = stat and stat.sd
    for name, stat in (
        ("final_sparsity", group.stat("final_sparsity")),
        ("final_sparsity_total", group.stat("final_sparsity_total")),
        ("memory_mib", memory and MeanStd(memory.n, memory.mean / MIB, None)),
        ("state_bytes_per_weight", group.stat("state_bytes_per_weight")),
        ("seconds", group.stat("seconds")),
        ("accuracy_per_100_mib", accuracy_per_100_mib(group, figure)),
    ):
        line[name] = stat and stat.mean
    line["memory_figure"] = figure if memory else None
    states = Counter(r.state for r in group.runs)
    line["states"] = ", ".join(f"{count} {state}" for state, count in states.items())
    line["not_counted"] = "; ".join(f"{r.name}: {r.exclusion_reason}" for r in group.runs if not r.is_complete)
    return line


def to_csv(results: Results) -> str:
    """summary.csv: unrounded means, empty cells where a figure is unknown, one line per group."""
    lines = records(results)
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return out.getvalue()


def cells(line: dict[str, Any]) -> list[str]:
    """A record as the texts of one table row, in the order of HEADINGS."""

    def text(name: str, digits: int, scale: float = 1.0) -> str:
        return GAP if line[name] is None else f"{scale * line[name]:,.{digits}f}"

    def spread(name: str) -> str:
        mean, sd = line[f"{name}_mean"], line[f"{name}_sd"]
        return GAP if mean is None else f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"

    method = line["pruning_method"]
    return [
        MODEL_NAMES.get(line["model"], line["model"]),
        OPTIMIZER_NAMES.get(line["optimizer"], line["optimizer"]),
        method_name(method, line["variant"], line["mode"]),
        GAP if method == "none" else f"{100 * line['target_sparsity']:g}",
        spread("accuracy"),
        str(line["n"]),
        spread("best_epoch_accuracy"),
        text("final_sparsity", 2, 100),
        text("final_sparsity_total", 2, 100),
        text("memory_mib", 2),
        text("state_bytes_per_weight", 2),
        text("seconds", 1),
        text("accuracy_per_100_mib", 1),
        line["states"],
    ]


def remarks(results: Results) -> list[str]:
    """The sentences under the table: which figures it shows, and every run that is kept out of it."""
    sentences = ["Accuracy: test set, last epoch; mean ± sample standard deviation over n seeds."]
    sentences += ["The best epoch is picked on the test set: it flatters."]
    figures = {results.of_model(model).memory_measure for model in results.models}
    sentences += [f"Memory: {MEMORY_MEASURES[figure]}." for figure in sorted(figures)]
    sentences += ["State: optimizer and pruning state at the end of the run, in bytes per parameter."]
    sentences += ["Sparsity: zeros among the prunable weights; of all: among all parameters."]
    if any(run.has_unpruned_layers and run.method != "none" for run in results.runs):
        sentences += ["Runs that leave the first layer or the classifier whole keep more weights at the same target."]
    if any(run.synthetic for run in results.runs):
        sentences.append("Synthetic images: their accuracy says nothing about real data.")
    for run in results.runs:
        if planned := run.extended_from_epochs:
            sentences.append(
                f"{run.name}: planned for {planned} epochs and trained further; not the same as a run planned so long."
            )
    if torn := sum(run.dropped for run in results.runs):
        sentences.append(f"{torn} torn lines were left out of metrics and memory samples.")
    return sentences


def to_markdown(results: Results) -> str:
    """summary.md: the table, what its figures are, and the runs that are not in it."""

    def row(values: Sequence[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    done = sum(run.is_complete for run in results.runs)
    total = max(len(results.runs), len(results.planned))
    marks = [":--" if i in TEXT_COLUMNS else "--:" for i in range(len(HEADINGS))]
    out = [f"# {results.name}", "", f"{done} of {total} runs done.", "", row(HEADINGS), row(marks)]
    out += [row(cells(line)) for line in records(results)]
    out += ["", *(f"{sentence}  " for sentence in remarks(results))]
    for title, table in paired_tests.tables(results):
        marks = [":--" if i in paired_tests.TEXT_COLUMNS else "--:" for i in range(len(paired_tests.HEADINGS))]
        out += [
            "",
            f"## {title}",
            "",
            row(paired_tests.HEADINGS),
            row(marks),
            *map(row, table),
            "",
            paired_tests.REMARK,
        ]
    if troubles := results.exclusions():
        out += ["", "Not in the means:", "", *(f"- {' '.join(trouble.split())}" for trouble in troubles)]
    return "\n".join(out) + "\n"


def write_summary(results: Results) -> None:
    """Write summary.csv and summary.md into the folder that the results were read from."""
    assert results.path is not None
    folder = ResultsDir(results.path)
    write_atomic(folder.summary_csv, to_csv(results))
    write_atomic(folder.summary_md, to_markdown(results))


def summary(results_dir: Path) -> int:
    results = load(results_dir)
    if not results.runs:
        print(f"{results_dir}: no runs in this folder", file=sys.stderr)
        return 1
    unwritten: OSError | None = None
    try:
        write_summary(results)
    except OSError as error:  # the disk is full, or not ours to write: the table can be shown all the same
        unwritten = error
    droppable = [i for i in LEAST_NEEDED if i or len(results.models) == 1]
    print_table(HEADINGS, [cells(line) for line in records(results)], TEXT_COLUMNS, droppable)
    print("\n" + "\n".join(remarks(results)))
    for title, table in paired_tests.tables(results):
        print(f"\n{title}\n")
        print_table(paired_tests.HEADINGS, table, paired_tests.TEXT_COLUMNS)
        print(f"\n{paired_tests.REMARK}")
    if troubles := shortened(results.exclusions()):
        print("\nNot in the means:\n" + "\n".join(f"  {trouble}" for trouble in troubles))
    sys.stdout.flush()
    if unwritten:
        print(f"summary.md and summary.csv are not written: {unwritten.strerror}", file=sys.stderr)
        return 1
    print(f"\nwritten: {results_dir}/summary.md, {results_dir}/summary.csv")
    return 0
