"""Timing of alternatives in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One alternative of one comparison.

    Attributes:
        part: what was compared.
        name: the alternative.
        milliseconds: median duration of one call.
        against: the alternative that the ratio refers to.
        ratio, lowest, highest: median, least and greatest of the ratios of neighbouring calls; below 1 is faster.
        images: how many images one call handles; 0 where it handles none.
    """

    part: str
    name: str
    milliseconds: float
    against: str
    ratio: float
    lowest: float
    highest: float
    images: int = 0


def time_interleaved(
    part: str, calls: dict[str, Callable[[], object]], rounds: int, against: str | None = None, images: int = 0
) -> list[Row]:
    """Call all alternatives once a round, after one uncounted round, and compare within each round."""
    base = against or next(iter(calls))
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[base], strict=True)]
        middle = 1000 * statistics.median(values)
        rows.append(Row(part, name, middle, base, statistics.median(ratios), min(ratios), max(ratios), images))
    return rows
