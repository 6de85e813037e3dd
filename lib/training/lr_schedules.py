"""Learning-rate schedules: pure functions from the step to the share of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2016, arXiv 1608.03983)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """Straight down from 1 to 0: with the warm-up as its rising side, one cycle (Smith 2018, arXiv 1803.09820)."""
    return 1.0 - progress


def constant(progress: float) -> float:
    return 1.0


DECAYS: dict[str, Callable[[float], float]] = {"cosine": cosine, "onecycle": linear, "constant": constant}


def factor(schedule: str, step: int, total_steps: int, warmup_fraction: float) -> float:
    """Share of the base rate that step `step` (counted from 0) uses.

    The first `warmup_fraction` of all steps rises linearly, its last step being the first at the full rate; the rest
    falls as the schedule says, to 0 at `total_steps`, which is one step after the last.
    """
    warmup = round(warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    return DECAYS[schedule]((step - warmup) / max(total_steps - warmup, 1))
