"""When to prune and how much: the cubic ramp of Zhu & Gupta 2017 (arXiv 1710.01878)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    final: float  # share of the prunable weights that is zero from step `end` on
    start: int  # step at which the ramp starts
    end: int
    interval: int  # steps between two mask updates

    def progress(self, step: int) -> float:
        return min(1.0, max(0.0, (step - self.start) / (self.end - self.start)))

    def sparsity(self, step: int) -> float:
        """``s(t) = s_f (1 - (1 - p)^3)``."""
        return self.final * (1 - (1 - self.progress(step)) ** 3)

    def is_update(self, step: int) -> bool:
        """Whether the mask changes after this step, counted from 1: every interval steps of the ramp and at its end."""
        if self.final == 0 or not self.start < step <= self.end:
            return False
        return step == self.end or (step - self.start) % self.interval == 0
