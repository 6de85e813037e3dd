"""Which configurations give more accuracy for no more memory: the Pareto order of (cost, gain) pairs."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # cost, of which less is better, and gain, of which more is better


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other beats, by rising cost; of equal points the first."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def count_beaten_by(points: Sequence[Point]) -> list[int]:
    """Return for each point how many others beat it: cost no more, gain no less, and are not equal in both."""
    return [sum(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points) for cost, gain in points]
