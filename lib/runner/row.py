"""What the runner knows of one run while it is trained, and how long all will take."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..storage.files import read_json
from ..storage.run_dir import RunDir

ELSEWHERE = "elsewhere"  # another runner has it in hand
WAITING = ("queued", "running")


@dataclass
class Row:
    """One run: its state, its newest records, and when it began here. Times are monotonic seconds."""

    run: RunDir
    config: RunConfig
    state: str
    reason: str | None = None
    epoch: int = 0  # finished ones
    fraction: float = 0.0  # of the unfinished epoch
    images_per_second: float | None = None
    record: dict[str, Any] = field(default_factory=dict)
    began: float | None = None
    first_steps: tuple[float, float] | None = None  # when they were seen, and how many epochs were done by then
    ended: float = 0.0
    took: float | None = None  # seconds
    retries: int = 0  # how often it was tried again
    began_epoch: int = 0
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def state_text(self) -> str:
        return f"{self.state} again" if self.retries and self.state in WAITING else self.state

    @property
    def epochs_done(self) -> float:
        return self.epoch + self.fraction

    def refresh(self) -> None:
        """Read the newest epoch, and how far the unfinished one is, where these files have changed since."""
        if self._changed(self.run.metrics):
            self.record = last_record(self.run.metrics)
            epoch = self.record.get("epoch")
            self.epoch = epoch if isinstance(epoch, int) else 0
            self.fraction = 0.0
            self.images_per_second = _positive(self.record.get("images_per_second")) or self.images_per_second
        if self.state in ("running", ELSEWHERE) and self._changed(self.run.progress):
            progress = self.run.read_progress()
            step, steps = _positive(progress.get("step")), _positive(progress.get("steps"))
            if progress.get("epoch") == self.epoch + 1 and step and steps:
                self.fraction = min(step / steps, 1.0)
            self.images_per_second = _positive(progress.get("images_per_second")) or self.images_per_second
        if self.state == "running" and self.first_steps is None and self.epochs_done > self.began_epoch:
            self.first_steps = (time.monotonic(), self.epochs_done)

    def _changed(self, path: Path) -> bool:
        try:
            stat = path.stat()
        except OSError:
            return False
        before, self._seen[path] = self._seen.get(path), (stat.st_mtime_ns, stat.st_size)
        return self._seen[path] != before

    def recall(self) -> None:
        """Take up what earlier starts left: epochs of a run that is resumed, the result of one that is kept."""
        self.refresh()
        self.began_epoch = self.epoch
        if self.state != "queued":
            self.took = _positive(read_json(self.run.summary).get("seconds"))

    def begin(self) -> None:
        self.refresh()
        self.state, self.began, self.began_epoch = "running", time.monotonic(), self.epoch
        self.fraction, self.first_steps = 0.0, None

    def end(self, state: str, reason: str | None) -> None:
        self.refresh()
        self.state, self.reason, self.ended = state, reason, time.monotonic()
        self.took = None if self.began is None else self.ended - self.began

    def learn(self, state: str, reason: str | None) -> None:
        """Note how another runner has ended it."""
        self.end(state, reason)
        self.recall()

    def text(self, name: str, scale: float = 1.0) -> str:
        """Return a value of the newest epoch with two digits, "" where there is none."""
        value = self.record.get(name)
        return f"{scale * value:.2f}" if isinstance(value, int | float) else ""

    def seconds(self) -> float | None:
        """Return how long the run has taken here so far, or took in all."""
        return time.monotonic() - self.began if self.state == "running" and self.began is not None else self.took

    def speed(self) -> tuple[float, float, float] | None:
        """Return epochs trained here, the seconds they took, and those until the first steps; None before these."""
        if self.began is None:
            return None
        begun, done = self.first_steps or (self.began, float(self.began_epoch))
        if self.epochs_done == done:  # of a run whose first look showed all of it
            begun, done = self.began, float(self.began_epoch)
        until = time.monotonic() if self.state == "running" else self.ended
        epochs = self.epochs_done - done
        return (epochs, until - begun, begun - self.began) if epochs > 0 and until > begun else None


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def last_record(path: Path) -> dict[str, Any]:
    """Return the last whole record of a file of JSON lines, {} if there is none. Reads only the end of the file."""
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


def seconds_left(rows: list[Row], jobs: int) -> float | None:
    """Return the epochs that remain times the seconds an epoch of that model takes, shared among the jobs.

    None until the first steps are seen. Models not seen yet count like those seen, and every queued run needs as long
    until its first steps as those did that have begun.
    """
    spent: dict[str, list[float]] = {}
    starts = []
    for row in rows:
        if speed := row.speed():
            epochs, seconds, start = speed
            pair = spent.setdefault(row.config.model, [0.0, 0.0])
            pair[0] += seconds
            pair[1] += epochs
            starts.append(start)
    if not spent:
        return None
    overall = sum(s for s, _ in spent.values()) / sum(e for _, e in spent.values())
    left = 0.0
    waiting = [row for row in rows if row.state in WAITING]
    for row in waiting:
        seconds, epochs = spent.get(row.config.model, (overall, 1.0))
        left += max(0.0, row.config.epochs - row.epochs_done) * seconds / epochs
        left += sum(starts) / len(starts) if row.state == "queued" else 0.0
    return left / max(1, min(jobs, len(waiting)))


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them: 90 -> "1:30", 4000 -> "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
