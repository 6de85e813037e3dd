"""Hold how far a run is, and the ways in which it can end early."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class Stop(Protocol):
    """Say between two steps whether the run shall stop, and by which signal. See StopSignals."""

    number: int

    def requested(self) -> bool: ...


@dataclass
class Progress:
    """Hold the records of a run's finished epochs and the sums over the unfinished one."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the unfinished epoch
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    memory_after_first_step: dict[str, int] = field(default_factory=dict)  # of the epoch; bytes by category
    mask_update: dict[str, Any] | None = None  # the latest of the unfinished epoch, if it was resumed after one
    loss: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    correct: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def next_epoch(self, record: dict[str, Any]) -> None:
        """Keep the record of the finished epoch and start the sums of the next."""
        self.history.append(record)
        self.epoch, self.step, self.seconds, self.mask_update = self.epoch + 1, 0, 0.0, None
        self.loss.zero_()
        self.correct.zero_()
