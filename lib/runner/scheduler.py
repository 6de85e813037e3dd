"""Keep a number of training processes going until all runs are over or a stop is requested."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from ..storage.locks import Locked
from ..training.stop import StopSignals
from . import environment
from .folder import write_run
from .live_table import Plain
from .process import TrainingProcess
from .resume import is_finished
from .row import ELSEWHERE, Row

TICK = 0.05  # seconds between looks at the processes
REDRAW = 0.5  # seconds between looks at their results
LOOK = 1.0  # seconds between looks for a run that nobody has in hand any more


class Scheduler:
    """Train the queued rows, `jobs` at a time, in their order.

    Other runners, here or on other machines, may be at the same rows. Each claims a run before it starts it, and holds
    the claim until it has recorded how the run ended. One that is `joining` ends when nothing is left to claim. One
    that is not waits for what others have in hand, and goes on with it should they not finish it. A run that was
    killed or ran out of memory is queued again, `retries` times at most.
    """

    def __init__(
        self,
        root: Path,
        rows: list[Row],
        jobs: int,
        view: Plain,
        stop: StopSignals,
        joining: bool = False,
        retries: int = 0,
    ):
        self.root, self.jobs, self.view, self.stop, self.joining = root, jobs, view, stop, joining
        self.retries = retries
        self.queue = [row for row in rows if row.state == "queued"]
        self.processes: list[tuple[Row, TrainingProcess]] = []
        self.claims: dict[str, contextlib.ExitStack] = {}
        self.stopped = 0  # how many requests to stop were passed on
        self.next_look = 0.0  # monotonic seconds
        self.waiting = False

    def run(self) -> None:
        """Train until all runs are over, or until all have ended after a request to stop."""
        drawn = 0.0
        try:
            while self.processes or (self.queue and not self.stop.count):
                self.pass_on_stop()
                if not self.stop.count:
                    self.start_some()
                for row, process in list(self.processes):
                    if process.ended():
                        self.processes.remove((row, process))
                        self.conclude(row, process)
                if time.monotonic() - drawn > REDRAW:
                    self.view.refresh()
                    drawn = time.monotonic()
                time.sleep(TICK)
        finally:  # an error of our own must not leave processes behind
            for _, process in self.processes:
                process.signal_group(signal.SIGKILL)

    def pass_on_stop(self) -> None:
        if self.stop.count > self.stopped:
            if not self.stopped and self.stop.count == 1:
                if self.processes:
                    self.view.say("stopping: the runs finish their step and save; once more stops at once")
                for _, process in self.processes:
                    process.stop(self.stop.number)
            else:
                for _, process in self.processes:
                    process.signal_group(signal.SIGKILL)
            self.stopped = self.stop.count

    def start_some(self) -> None:
        """Start queued runs until `jobs` are going. A run that another process has in hand waits its turn."""
        if time.monotonic() < self.next_look:
            return
        holder = None
        for row in list(self.queue):
            if len(self.processes) >= self.jobs:
                return
            holder = self.take(row) or holder
        self.next_look = time.monotonic() + LOOK
        if self.processes or not self.queue:
            return
        if self.joining:
            self.queue.clear()
        elif not self.waiting:
            self.waiting = True
            self.view.say(f"waiting: {holder}")

    def take(self, row: Row) -> str | None:
        """Start a queued run, or learn how another runner has ended it. Return who has it in hand, None if nobody."""
        claim = contextlib.ExitStack()
        try:
            claim.enter_context(row.run.claim())
            with row.run.lock():  # a process may outlive a killed runner
                pass
        except Locked as busy:
            claim.close()
            row.state = ELSEWHERE
            return str(busy)
        except OSError:
            pass  # starting it will say why
        self.queue.remove(row)
        status = row.run.read_status()
        if is_finished(row.run, row.config) or status.get("state") == "failed":  # since we have planned it
            claim.close()
            row.learn(status["state"], status.get("reason"))
            self.view.finished(row)
        else:
            self.claims[row.run.name] = claim
            self.start(row)
        return None

    def start(self, row: Row) -> None:
        row.begin()
        try:
            write_run(row.run, row.config)
            row.run.write_status("running", epochs=row.config.epochs, pid=None)  # its process has none to tell yet
            self.processes.append((row, TrainingProcess(self.root, row.run, row.config, self.jobs)))
        except OSError as error:
            self.finish(row, "failed", f"could not be started: {error.strerror}: {error.filename or row.run.path}")
        else:
            self.view.started(row)

    def conclude(self, row: Row, process: TrainingProcess) -> None:
        """Record how a process has ended, or queue its run again."""
        state, reason = process.outcome(self.stop.count > 0)
        if self.stop.count or row.retries >= self.retries or not process.may_be_retried(state, reason):
            self.finish(row, state, reason, process.process.returncode)
            return
        try:
            row.run.write_status("queued", retried_after=reason, pid=None)
        except OSError:  # a full disk: it would end the same way
            self.finish(row, state, reason, process.process.returncode)
            return
        if row.config.device != "cpu" and not environment.why_no_cuda():
            self.jobs = max(1, self.jobs // 2)
        self.claims.pop(row.run.name).close()
        row.end("queued", None)
        row.retries += 1
        self.queue.insert(0, row)
        self.next_look = 0.0
        self.view.retried(row, reason or state)

    def finish(self, row: Row, state: str, reason: str | None, code: int | None = None) -> None:
        """Record how a run ended: as its process did, or in its place where that was killed."""
        row.end(state, reason)
        status = row.run.read_status()
        if (status.get("state"), status.get("reason")) != (state, reason):
            with contextlib.suppress(OSError):  # a full disk: the outcome is still shown, and counted
                row.run.write_status(state, reason, exit_code=code)
        self.claims.pop(row.run.name).close()
        self.view.finished(row)
