"""Time alternatives in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Mapping
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


@dataclass(frozen=True)
class Round:
    """The start of one round of a comparison; number 0 is the one that does not count."""

    part: str
    number: int
    rounds: int


#: What a benchmark yields: each round as it starts, then the rows of the comparison.
Events = Generator[Round | Row, None, None]


def time_interleaved(
    part: str, calls: Mapping[str, Callable[[], object]], rounds: int, against: str | None = None, images: int = 0
) -> Events:
    """Call all alternatives once a round, after one uncounted round, and compare within each round.

    Args:
        part: what is compared.
        calls: the alternatives by name.
        rounds: how often each is called and timed.
        against: the alternative that ratios refer to; the first by default.
        images: how many images one call handles.
    """
    base = against or next(iter(calls))
    yield Round(part, 0, rounds)
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1, rounds + 1):
        yield Round(part, number, rounds)
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[base], strict=True)]
        middle = 1000 * statistics.median(values)
        yield Row(part, name, middle, base, statistics.median(ratios), min(ratios), max(ratios), images)
