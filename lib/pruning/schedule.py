"""Say when to prune and how much: the cubic ramp of Zhu & Gupta 2017 (https://arxiv.org/abs/1710.01878)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class CubicSchedule:
    """Prescribe the sparsity over a training, counted in completed optimizer steps.

    ``s(t) = s_f * (1 - (1 - p)^3)`` with ``p = (t - start) / (end - start)`` clipped to [0, 1]: steep while there
    is much to remove, gentle near the end. The mask changes every ``interval`` steps after ``start`` and a last time
    at ``end``; from there on it is fixed.

    Args:
        final (float): s_f, the fraction of the prunable weights that is zero at the end, 0 <= final < 1.
        start (int): step at which the ramp starts (sparsity is still 0 there).
        end (int): step at which ``final`` is reached, end > start.
        interval (int): steps between two mask updates, at least 1.

    Raises:
        ValueError: naming the argument that is out of its range.

    Example::

        schedule = CubicSchedule(final=0.9, start=0, end=1000, interval=100)
        schedule.sparsity(500)  # 0.7875
    """

    final: float
    start: int
    end: int
    interval: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.final < 1.0:  # refuses NaN too
            raise ValueError(f"sparsity must be in [0, 1), got {self.final}")
        for name, steps in (("start_step", self.start), ("end_step", self.end), ("update_interval", self.interval)):
            if not float(steps).is_integer():  # a step that is never reached
                raise ValueError(f"{name} must be a whole number, got {steps}")
        if self.start < 0:
            raise ValueError(f"start_step must be at least 0, got {self.start}")
        if self.end <= self.start:
            raise ValueError(f"end_step must be after start_step {self.start}, got {self.end}")
        if self.interval < 1:
            raise ValueError(f"update_interval must be at least 1, got {self.interval}")

    def progress(self, step: int) -> float:
        """Return the position in the ramp after ``step`` steps, 0 at its start and 1 from its end on."""
        return min(max((step - self.start) / (self.end - self.start), 0.0), 1.0)

    def sparsity(self, step: int) -> float:
        """Return the sparsity that holds after ``step`` completed optimizer steps."""
        return self.final * (1.0 - (1.0 - self.progress(step)) ** 3)

    def is_update(self, step: int) -> bool:
        """Return whether the mask changes right after optimizer step number ``step`` (counted from 1)."""
        if self.final == 0.0 or not self.start < step <= self.end:
            return False
        return step == self.end or (step - self.start) % self.interval == 0

    def is_early_update(self, step: int) -> bool:
        """Return ``is_update(step)``, or True at the same interval before the ramp, where nothing is pruned yet."""
        return self.is_update(step) or (self.final > 0.0 and 0 < step <= self.start and step % self.interval == 0)

    @classmethod
    def from_steps(cls, final: float, start: int, end: int | None, interval: int | None) -> CubicSchedule:
        """Return a schedule; ``end`` may be None if nothing is pruned, and ``interval`` None to fit the ramp."""
        if not isinstance(final, Real) or not 0.0 <= final < 1.0:
            raise ValueError(f"sparsity must be in [0, 1), got {final!r}")
        if end is None and final:
            raise ValueError("end_step is needed when sparsity > 0: the optimizer step at which it is reached")
        end = start + 1 if end is None else end
        return cls(final, start, end, min(max((end - start) // 10, 1), 100) if interval is None else interval)

    @classmethod
    def from_fractions(cls, final: float, start: float, end: float, interval: int, total_steps: int) -> CubicSchedule:
        """Return the schedule of a run of ``total_steps`` whose ramp lies between two fractions of it."""
        first = math.floor(start * total_steps)
        return cls(final, first, max(math.floor(end * total_steps), first + 1), interval)


def exchange_fraction(initial: float, progress: float) -> float:
    """Return the fraction of survivors to exchange at an update: cosine decay to 0, as in RigL (arXiv 1911.11134)."""
    return initial * 0.5 * (1.0 + math.cos(math.pi * progress))
