"""Report how far a run is within an epoch, for whoever watches it. No import of torch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..storage.run_dir import RunDir

INTERVAL = 1.0  # seconds between two records at least


class ProgressReport:
    """Write epoch, step, speed and time left to progress.json, at most once a second and without waiting for a GPU.

    Args:
        run: folder of the run.
        epochs: number of epochs that the run is to have.
        steps: steps of an epoch.
        batch_size: images of a step.
        clock: returns seconds.
    """

    def __init__(
        self, run: RunDir, epochs: int, steps: int, batch_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run, self.epochs, self.steps, self.batch_size, self.clock = run, epochs, steps, batch_size, clock
        self.is_warm = False
        self.start_step = 0
        self.start_time = self.written = clock()
        self.evaluation_seconds = 0.0

    def start_epoch(self, step: int, history: Sequence[dict[str, Any]]) -> None:
        """Start the clock of an epoch of which `step` steps are done already."""
        self.start_step, self.start_time = step, self.clock()
        self.evaluation_seconds = history[-1]["evaluation_seconds"] if history else 0.0

    def after_step(self, epoch: int, step: int) -> None:
        """Write a record if one is due: `epoch` epochs are finished, and `step` steps of the next one."""
        now = self.clock()
        if not self.is_warm:  # the first step of a process compiles kernels and chooses algorithms
            self.is_warm = True
            self.start_step, self.start_time = step, now
        elif now - self.written >= INTERVAL:
            self.written = now
            with contextlib.suppress(OSError):  # a full disk is found, and reported, by what must be written
                self.run.write_progress(self.record(epoch, step, now))

    def record(self, epoch: int, step: int, now: float) -> dict[str, Any]:
        """Return what is written: numbers of epochs and steps, images per second, and seconds until the run ends."""
        seconds_per_step = (now - self.start_time) / (step - self.start_step)
        steps_left = (self.epochs - epoch) * self.steps - step
        return {
            "epoch": epoch + 1,
            "epochs": self.epochs,
            "step": step,
            "steps": self.steps,
            "images_per_second": self.batch_size / seconds_per_step,
            "seconds_left": steps_left * seconds_per_step + (self.epochs - epoch) * self.evaluation_seconds,
            "time": time.time(),
        }
