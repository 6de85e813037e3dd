"""The summary of a results folder: its table in the terminal, in summary.md and in summary.csv."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..storage.files import write_atomic
from ..storage.run_dir import ResultsDir
from . import paired_tests
from .load import load
from .records import Results
from .remarks import remarks
from .summary_table import LEAST_NEEDED, columns, records
from .text_table import print_sentences, print_table, shortened


def to_csv(results: Results) -> str:
    """Return summary.csv: unrounded means, empty cells where a figure is unknown, one line per group."""
    lines = records(results)
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value as a spreadsheet is to read it: text that would begin a formula there gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def to_markdown(results: Results) -> str:
    """Return summary.md: the table, what its figures are, and the runs that are not in it."""

    def row(values: Sequence[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    done = sum(run.is_complete for run in results.runs)
    total = max(len(results.runs), len(results.planned))
    lines = records(results)
    shown = columns(lines)
    marks = [":--" if column.is_text else "--:" for column in shown]
    out = [f"# {results.name}", "", f"{done} of {total} run{'s' * (total != 1)} done.", ""]
    out += [row([column.heading for column in shown]), row(marks)]
    out += [row([column.text(line) for column in shown]) for line in lines]
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


def print_summary_table(results: Results) -> None:
    """Print the table; where the terminal is too narrow for it, without the columns least needed."""
    lines = records(results)
    shown = columns(lines)
    headings = [column.heading for column in shown]
    droppable = [headings.index(name) for name in LEAST_NEEDED if name in headings]
    if len(results.models) > 1:
        droppable.remove(headings.index("model"))
    text_columns = {i for i, column in enumerate(shown) if column.is_text}
    print_table(headings, [[column.text(line) for column in shown] for line in lines], text_columns, droppable)


def summary(results_dir: Path) -> int:
    """Write and print the summary of a results folder; return the exit code."""
    results = load(results_dir)
    if not results.runs:
        print(f"{results_dir}: no runs in this folder", file=sys.stderr)
        return 1
    unwritten: OSError | None = None
    try:
        write_summary(results)
    except OSError as error:  # the disk is full, or not ours to write: the table can be shown all the same
        unwritten = error
    print_summary_table(results)
    print()
    print_sentences(remarks(results))
    for title, table in paired_tests.tables(results):
        print(f"\n{title}\n")
        print_table(paired_tests.HEADINGS, table, paired_tests.TEXT_COLUMNS, paired_tests.LEAST_NEEDED)
        print(f"\n{paired_tests.REMARK}")
    if troubles := shortened(results.exclusions()):
        print("\nNot in the means:")
        print_sentences(troubles, "  ")
    sys.stdout.flush()
    if unwritten:
        print(f"summary.md and summary.csv are not written: {unwritten.strerror}", file=sys.stderr)
        return 1
    print(f"\nwritten: {results_dir}/summary.md, {results_dir}/summary.csv")
    return 0
