"""What the runner shows: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..storage.files import read_json
from ..storage.run_dir import RunDir

ELSEWHERE = "elsewhere"  # another runner has it in hand

MARKS = {
    "done": "[green]done[/]",
    "running": "[cyan]running[/]",
    "failed": "[red]failed[/]",
    "diverged": "[red]diverged[/]",
    "interrupted": "[yellow]interrupted[/]",
    "queued": "[dim]queued[/]",
    ELSEWHERE: f"[cyan]{ELSEWHERE}[/]",
}


def last_record(path: Path) -> dict[str, Any]:
    """The last whole record of a file of JSON lines, {} if there is none. Reads only the end of the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                return record
    return {}


def clock(seconds: float) -> str:
    """90 -> "1:30", 4000 -> "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_line(text: str) -> None:
    """Print a line. Whoever should read it may be gone: the runs go on."""
    try:
        print(text, flush=True)
    except OSError:
        silence()


def silence() -> None:
    """Print into nothing from now on: the terminal, or the reader of the pipe, is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


@dataclass
class Row:
    """What is shown of one run."""

    run: RunDir
    config: RunConfig
    state: str
    reason: str | None = None
    epoch: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    began: float | None = None  # monotonic seconds
    took: float | None = None  # seconds
    began_epoch: int = 0
    order: float = 0.0  # monotonic seconds at its end: what ended last is shown first
    _seen: tuple[int, int] = (0, 0)

    def refresh(self) -> None:
        """Read the newest epoch, if the file changed since."""
        try:
            stat = self.run.metrics.stat()
        except OSError:
            return
        if (seen := (stat.st_mtime_ns, stat.st_size)) != self._seen:
            self._seen = seen
            self.record = last_record(self.run.metrics)
            epoch = self.record.get("epoch")
            self.epoch = epoch if isinstance(epoch, int) else 0

    def recall(self) -> None:
        """Take up what earlier starts left: epochs of a run that goes on, the result of one that is kept."""
        self.refresh()
        self.began_epoch = self.epoch
        if self.state != "queued":
            seconds = read_json(self.run.summary).get("seconds")
            self.took = seconds if isinstance(seconds, int | float) else None

    def begin(self) -> None:
        self.refresh()
        self.state, self.began, self.began_epoch = "running", time.monotonic(), self.epoch

    def end(self, state: str, reason: str | None) -> None:
        self.refresh()
        self.state, self.reason, self.took, self.began = state, reason, self.seconds(), None
        self.order = time.monotonic()

    def learn(self, state: str, reason: str | None) -> None:
        """How another runner has ended it."""
        self.end(state, reason)
        self.recall()

    def figure(self, name: str, scale: float = 1.0) -> str:
        value = self.record.get(name)
        return f"{scale * value:.2f}" if isinstance(value, int | float) else ""

    def seconds(self) -> float | None:
        return self.took if self.began is None else time.monotonic() - self.began


def seconds_left(rows: list[Row], jobs: int) -> float | None:
    """Epochs that remain times the seconds an epoch of that model has taken, shared among the jobs.

    None as long as no epoch is over. Models not seen yet count like those seen.
    """
    spent: dict[str, list[float]] = {}
    for row in rows:
        epochs, seconds = row.epoch - row.began_epoch, row.seconds()
        if epochs > 0 and seconds:
            pair = spent.setdefault(row.config.model, [0.0, 0.0])
            pair[0] += seconds
            pair[1] += epochs
    if not spent:
        return None
    overall = sum(s for s, _ in spent.values()) / sum(e for _, e in spent.values())
    left = 0.0
    for row in rows:
        if row.state in ("queued", "running"):
            s, e = spent.get(row.config.model, (overall, 1.0))
            left += max(0, row.config.epochs - row.epoch) * s / e
    running = sum(row.state in ("queued", "running") for row in rows)
    return left / max(1, min(jobs, running))


class Plain:
    """One line per event, and for long runs a line of progress at most every `every` seconds."""

    every = 60.0

    def __init__(self, rows: list[Row], jobs: int):
        self.rows, self.jobs = rows, jobs
        self.width = len(str(len(rows)))
        self.told: dict[str, tuple[int, float]] = {}

    def say(self, text: str) -> None:
        print_line(text)

    def event(self, row: Row, text: str) -> None:
        over = sum(r.state not in ("queued", "running", ELSEWHERE) for r in self.rows)
        self.say(f"[{over:{self.width}}/{len(self.rows)}] {row.run.name}: {text}")

    def started(self, row: Row) -> None:
        self.told[row.run.name] = (row.epoch, time.monotonic())
        self.event(row, "goes on after epoch " + str(row.epoch) if row.epoch else "started")

    def finished(self, row: Row) -> None:
        parts = [row.state + (f": {row.reason}" if row.reason else "")]
        if row.state == "done" and (accuracy := row.figure("test_accuracy")):
            parts.append(f"accuracy {accuracy} %")
            parts.append(f"sparsity {row.figure('sparsity', 100)} %")
        parts.append(clock(row.took or 0))
        left = seconds_left(self.rows, self.jobs)
        if left:
            parts.append(f"{clock(left)} left")
        self.event(row, ", ".join(parts))

    def refresh(self) -> None:
        for row in self.rows:
            if row.state != "running":
                continue
            row.refresh()
            epoch, when = self.told.get(row.run.name, (0, 0.0))
            if row.epoch > epoch and time.monotonic() - when > self.every:
                self.told[row.run.name] = (row.epoch, time.monotonic())
                accuracy = row.figure("test_accuracy")
                self.event(row, f"epoch {row.epoch}/{row.config.epochs}, accuracy {accuracy} %")


class Live(Plain):
    """A table that stays in place. It shows as many rows as fit: what runs, what failed, what ended last."""

    def __init__(self, rows: list[Row], jobs: int, console: Any):
        super().__init__(rows, jobs)
        self.console = console
        self.live: Any = None

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

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

    def fitting(self, room: int) -> list[Row]:
        """At most `room` rows in matrix order: what runs, what failed, what ended last, what is next."""
        interest = {"running": 0, ELSEWHERE: 0, "failed": 1, "diverged": 1, "interrupted": 1, "done": 2, "queued": 3}
        ranked = sorted(self.rows, key=lambda row: (interest[row.state], -row.order))
        shown = {row.run.name for row in ranked[:room]}
        return [row for row in self.rows if row.run.name in shown]

    def table(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, caption=self.caption(), caption_justify="left")
        table.add_column("run", no_wrap=True, overflow="ellipsis")
        for heading in ("state", "epoch", "accuracy %", "sparsity %", "time"):
            table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
        shown = self.fitting(max(3, self.console.height - 7))
        for row in shown:
            seconds = row.seconds()
            table.add_row(
                row.run.name,
                MARKS[row.state],
                f"{row.epoch}/{row.config.epochs}",
                row.figure("test_accuracy"),
                row.figure("sparsity", 100),
                "" if seconds is None else clock(seconds),
            )
        return table

    def caption(self) -> str:
        count = {state: sum(row.state == state for row in self.rows) for state in MARKS}
        parts = [f"{n} {state}" for state, n in count.items() if n]
        left = seconds_left(self.rows, self.jobs)
        return ", ".join(parts) + (f"; {clock(left)} left" if left else "")


@contextlib.contextmanager
def display(rows: list[Row], jobs: int, terminal: bool) -> Iterator[Plain]:
    """The live table on a terminal, plain lines elsewhere."""
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
