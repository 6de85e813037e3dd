"""What the runner shows: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..storage.terminal import visible
from .row import ELSEWHERE, WAITING, Row, clock, seconds_left

COLOURS = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "interrupted": "yellow",
    "queued": "dim",
    ELSEWHERE: "cyan",
}


class Column(NamedTuple):
    heading: str
    width: int  # at least, so that it does not change all the time
    text: Callable[[Row], str]


COLUMNS = (
    Column("state", len("running"), lambda row: row.state_text),
    Column("epoch", 0, lambda row: epoch_text(row)),
    Column("accuracy %", 6, lambda row: row.text("test_accuracy")),
    Column("sparsity %", 6, lambda row: row.text("sparsity", 100)),
    Column("images/s", 8, lambda row: f"{row.images_per_second:,.0f}" if row.images_per_second else ""),
    Column("time", len("9:59:59"), lambda row: "" if (seconds := row.seconds()) is None else clock(seconds)),
)
# what a narrow terminal goes without, in this order; a run's name and state are always shown
LEAST_NEEDED = ("images/s", "sparsity %", "time", "accuracy %", "epoch")
GAP = 2  # blanks between columns


def print_line(text: str) -> None:
    """Print a line. Whoever should read it may be gone: the runs go on."""
    try:
        print(visible(text), flush=True)
    except OSError:
        silence()


def silence() -> None:
    """Print into nothing from now on: the terminal, or the reader of the pipe, is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


def epoch_text(row: Row) -> str:
    """Return how many epochs are done of how many: `3/20`, of a run that is being trained `3.4/20`."""
    done = f"{row.epochs_done:.1f}" if row.state in ("running", ELSEWHERE) and row.fraction else str(row.epoch)
    return f"{done}/{row.config.epochs}"


def fitting_columns(rows: Sequence[Row], width: int) -> tuple[str, list[Column]]:
    """Return what to leave out in front of every run's name, and the columns that fit beside it.

    First the names go without the model where all have the same, then columns are dropped: no cell is ever cut.
    """
    widest_epoch = max(2 * len(str(row.config.epochs)) + len(".9/") for row in rows)
    widths = {
        column.heading: max(column.width, len(column.heading), *(len(column.text(row)) for row in rows))
        for column in COLUMNS
    }
    widths["epoch"] = max(widths["epoch"], widest_epoch)
    models = {row.config.model for row in rows}
    names = [visible(row.run.name) for row in rows]
    prefix, columns = "", list(COLUMNS)

    def fits() -> bool:
        name = max(len(heading_of_names(prefix)), *(len(name) - len(prefix) for name in names))
        return name + sum(GAP + widths[column.heading] for column in columns) <= width

    if not fits() and len(models) == 1:
        prefix = f"{models.pop()}_"
    for heading in LEAST_NEEDED:
        if fits():
            break
        columns = [column for column in columns if column.heading != heading]
    return prefix, columns


def heading_of_names(prefix: str) -> str:
    return f"{prefix}…" if prefix else "run"


class Plain:
    """One line per event, and of a run's progress one per epoch or per minute, whichever is rarer."""

    every = 60.0  # seconds

    def __init__(self, rows: list[Row], jobs: int):
        self.rows, self.jobs = rows, jobs
        self.width = len(str(len(rows)))
        self.printed: dict[str, tuple[float, float]] = {}  # epochs done and monotonic seconds at a run's last line

    def say(self, text: str) -> None:
        print_line(text)

    def event(self, row: Row, *parts: str) -> None:
        over = sum(r.state not in (*WAITING, ELSEWHERE) for r in self.rows)
        self.say(f"[{over:{self.width}}/{len(self.rows)}] {row.run.name}: {', '.join(filter(None, parts))}")

    def left(self) -> str:
        left = seconds_left(self.rows, self.jobs)
        return f"{clock(left)} left" if left else ""

    def started(self, row: Row) -> None:
        self.printed[row.run.name] = (row.epoch, time.monotonic())
        self.event(row, f"goes on after epoch {row.epoch}" if row.epoch else "started")

    def retried(self, row: Row, reason: str) -> None:
        self.event(row, f"{reason}; it is tried again")

    def finished(self, row: Row) -> None:
        parts = [row.state + (f": {row.reason}" if row.reason else "")]
        if row.state == "done" and (accuracy := row.text("test_accuracy")):
            parts += [f"accuracy {accuracy} %", f"sparsity {row.text('sparsity', 100)} %"]
        self.event(row, *parts, clock(row.took or 0), self.left())

    def refresh(self) -> None:
        for row in self.rows:
            if row.state != "running":
                continue
            row.refresh()
            epoch, when = self.printed.get(row.run.name, (0, 0.0))
            first = epoch == row.began_epoch and row.epochs_done > epoch  # how long it will take is of interest at once
            if (row.epoch > epoch or first) and time.monotonic() - when > self.every:
                self.printed[row.run.name] = (row.epochs_done if first else row.epoch, time.monotonic())
                accuracy = row.text("test_accuracy")
                self.event(row, f"epoch {epoch_text(row)}", f"accuracy {accuracy} %" if accuracy else "", self.left())


class Live(Plain):
    """A table that stays in place. It shows as many rows as fit: what runs, what failed, what ended last."""

    def __init__(self, rows: list[Row], jobs: int, console: Any):
        super().__init__(rows, jobs)
        self.console = console
        self.live: Any = None

    def say(self, text: str) -> None:
        self.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    def started(self, row: Row) -> None:
        self.refresh()

    def finished(self, row: Row) -> None:
        if row.state in ("failed", "diverged"):
            super().finished(row)
        self.refresh()

    def refresh(self) -> None:
        for row in self.rows:
            if row.state in ("running", ELSEWHERE):
                row.refresh()
        if self.live is not None:
            self.live.update(self.table())

    def fitting_rows(self, room: int) -> list[Row]:
        """Return at most `room` rows in matrix order: what runs, what failed, what ended last, what is next."""
        interest = {"running": 0, ELSEWHERE: 0, "failed": 1, "diverged": 1, "interrupted": 1, "done": 2, "queued": 3}
        ranked = sorted(self.rows, key=lambda row: (interest[row.state], -row.ended))
        shown = {row.run.name for row in ranked[:room]}
        return [row for row in self.rows if row.run.name in shown]

    def table(self) -> Any:
        """Return what rich is to show: the table, and the counts with the time left below it."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        prefix, columns = fitting_columns(self.rows, self.console.width)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        table.add_column(heading_of_names(prefix), no_wrap=bool(columns[1:]), overflow="fold")
        for column in columns:
            table.add_column(
                column.heading,
                justify="left" if column.heading == "state" else "right",
                no_wrap=True,
                min_width=column.width,
            )
        for row in self.fitting_rows(max(3, self.console.height - 6)):
            cells = [
                Text(column.text(row), style=COLOURS[row.state] if column.heading == "state" else "")
                for column in columns
            ]
            table.add_row(Text(visible(row.run.name.removeprefix(prefix))), *cells)
        return Group(table, Text(self.caption(), style="dim"))

    def caption(self) -> str:
        """Return how many runs are in which state, and the time left."""
        count = {state: sum(row.state == state for row in self.rows) for state in COLOURS}
        parts = ", ".join(f"{number} {state}" for state, number in count.items() if number)
        left = self.left()
        return f"{parts}; {left}" if left else parts


@contextlib.contextmanager
def display(rows: list[Row], jobs: int, terminal: bool) -> Iterator[Plain]:
    """Show the live table on a terminal, plain lines elsewhere, inside the `with` block."""
    if not terminal:
        yield Plain(rows, jobs)
        return
    from rich.console import Console
    from rich.live import Live as RichLive

    console = Console()
    view = Live(rows, jobs, console)
    with RichLive(view.table(), console=console, refresh_per_second=4) as live:
        view.live = live
        yield view
        view.refresh()
