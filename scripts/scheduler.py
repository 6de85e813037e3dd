"""The loop that keeps a number of training processes going until all runs are over or it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

from lib.files import Locked
from scripts.children import Child
from scripts.live_table import Plain, Row, silence
from scripts.plan import write_run

TICK = 0.05  # seconds between looks at the children
REDRAW = 0.5  # seconds between looks at their results


class Stop:
    """Counts requests to stop, inside its `with` block: Ctrl-C, SIGTERM, and the terminal going away.

    Once: the runs finish their step and save. Twice: everything ends at once.
    """

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0
        self.number = 0  # of the first signal

    def __enter__(self) -> Stop:
        self.before = {number: signal.getsignal(number) for number in self.signals}
        for number, handler in self.before.items():
            # one that is ignored from outside stays ignored: nohup means it
            if not (number == signal.SIGHUP and handler == signal.SIG_IGN):
                signal.signal(number, self._asked)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _: Any) -> None:
        if number == signal.SIGHUP:
            silence()
        self.count += 1
        self.number = self.number or number

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM or a lost terminal, 0 if nobody asked to stop."""
        return 0 if not self.count else 130 if self.number == signal.SIGINT else 143


class Scheduler:
    """Trains the queued rows, `jobs` at a time, in their order."""

    def __init__(self, root: Path, rows: list[Row], jobs: int, view: Plain, stop: Stop):
        self.root, self.jobs, self.view, self.stop = root, jobs, view, stop
        self.queue = [row for row in rows if row.state == "queued"]
        self.children: list[tuple[Row, Child]] = []
        self.stopped = 0  # how many requests to stop were passed on
        self.waiting = False

    def run(self) -> None:
        """Until all are over, or until all have ended after a request to stop."""
        drawn = 0.0
        try:
            while self.children or (self.queue and not self.stop.count):
                self.pass_on_stop()
                if not self.stop.count:
                    self.start_some()
                for row, child in list(self.children):
                    if child.ended():
                        self.children.remove((row, child))
                        self.finish(row, *child.outcome(self.stop.count > 0), code=child.process.returncode)
                if time.monotonic() - drawn > REDRAW:
                    self.view.refresh()
                    drawn = time.monotonic()
                time.sleep(TICK)
        finally:  # an error of our own must not leave processes behind
            for _, child in self.children:
                child.signal_group(signal.SIGKILL)

    def pass_on_stop(self) -> None:
        if self.stop.count > self.stopped:
            if not self.stopped and self.stop.count == 1:
                if self.children:
                    self.view.say("stopping: the runs finish their step and save; once more stops at once")
                for _, child in self.children:
                    child.stop(self.stop.number)
            else:
                for _, child in self.children:
                    child.signal_group(signal.SIGKILL)
            self.stopped = self.stop.count

    def start_some(self) -> None:
        """Start queued runs until `jobs` are going. A run that another process still writes waits its turn."""
        while self.queue and len(self.children) < self.jobs:
            row = next((row for row in self.queue if not self.holder(row)), None)
            if row is None:
                if not self.children and not self.waiting:
                    self.waiting = True
                    self.view.say(f"waiting: {self.holder(self.queue[0])}")
                return
            self.queue.remove(row)
            self.start(row)

    def holder(self, row: Row) -> str | None:
        """Who writes into the run's folder now, None if nobody: a child may outlive a killed runner."""
        try:
            with row.run.lock():
                return None
        except Locked as busy:
            return str(busy)
        except OSError:
            return None  # starting it will say why

    def start(self, row: Row) -> None:
        row.begin()
        try:
            write_run(row.run, row.config)
            self.children.append((row, Child(self.root, row.run, row.config, self.jobs)))
        except OSError as error:
            self.finish(row, "failed", f"could not be started: {error.strerror}: {error.filename or row.run.path}")
        else:
            self.view.started(row)

    def finish(self, row: Row, state: str, reason: str | None, code: int | None = None) -> None:
        """Keep how a run ended: as its process recorded it, or in its place where that was killed."""
        row.end(state, reason)
        status = row.run.read_status()
        if (status.get("state"), status.get("reason")) != (state, reason):
            with contextlib.suppress(OSError):  # a full disk: the outcome is still shown, and counted
                row.run.write_status(state, reason, exit_code=code)
        self.view.finished(row)
