"""Learning-rate schedules: pure functions from the step to a factor of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(progress: float) -> float:
    """Return half a cosine from 1 to 0 (Loshchilov & Hutter 2016, arXiv 1608.03983)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """Return a line from 1 to 0; with a warm-up before it, one cycle (Smith 2018, arXiv 1803.09820)."""
    return 1.0 - progress


def constant(progress: float) -> float:
    """Return 1."""
    return 1.0


DECAYS: dict[str, Callable[[float], float]] = {"cosine": cosine, "onecycle": linear, "constant": constant}


def factor(schedule: str, step: int, total_steps: int, warmup_fraction: float) -> float:
    """Return the factor of the base rate at `step`, counted from 0.

    During the first `warmup_fraction` of all steps it rises linearly and reaches 1 at the last of them. Then it follows
    the schedule, to 0 at `total_steps`, which is one step after the last.
    """
    warmup = round(warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    return DECAYS[schedule]((step - warmup) / max(total_steps - warmup, 1))
