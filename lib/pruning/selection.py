"""Which weights to prune: exact selection of the lowest scores over many layers, in little memory.

Scores are never concatenated or sorted. Each is read as a sortable 32-bit key; one pass counts the upper halves of
the keys per layer, a second pass the lower halves around each layer's threshold. Two small tables then tell, to the
single weight, how many to prune in each layer and below which key. Scores are produced a slice at a time by the caller,
once per pass. Ties are broken by index: of equal scores the weight that lies first in its layer is pruned first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..kernels import cpu
from .score_histogram import HALF, Counts, Layer, count_lower_halves, count_upper_halves, keys_of, lower_edges

BY_SHAPE = ("uniform", "erk")  # those that give every layer its number whatever the scores are
RANKINGS = ("global", "layer_adaptive", *BY_SHAPE)


@dataclass(frozen=True)
class Threshold:
    """Prune the scores whose key is below ``key``, and the first ``ties`` of those equal to it."""

    key: int
    ties: int


def survivors_at_least(size: int, min_density: float) -> int:
    """Floor of a layer: at least the given share of its weights, and never none."""
    return max(1, int(np.ceil(min_density * size)))


class Selection:
    """The lowest scores of several layers, counted once and then cut where it is asked for.

    Args:
        layers: all layers that take part.

    Raises:
        NotFinite: a score is NaN or infinite; the layer is named.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.caps = np.array([max(layer.candidates - layer.keep, 0) for layer in layers], dtype=np.int64)
        self.upper = count_upper_halves(layers)

    def numbers(self, prune: int, ranking: str, caps: np.ndarray | None = None) -> np.ndarray:
        """How many to prune in each layer so that they are ``prune`` altogether.

        Args:
            prune: number of candidates to prune over all layers.
            ranking: ``global`` (the lowest scores wherever they are), ``layer_adaptive`` (as LAMP, arXiv 2010.07611:
                each squared score over the sum of the squares not smaller in its layer; computed from scores cut to
                bfloat16), ``uniform`` (the same density everywhere) or ``erk`` (density in proportion to the sum of a
                layer's dimensions over their product, arXiv 1911.11134).
            caps: how many to prune in each layer at most; by default all but its floor.

        Raises:
            ValueError: unknown ranking, or more to prune than the layers' floors allow.
        """
        caps = self.caps if caps is None else caps
        if ranking not in RANKINGS:
            raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
        if prune > caps.sum():
            raise ValueError(f"cannot prune {prune} weights: the layers' floors leave {caps.sum()} to prune")
        if prune == 0:
            return np.zeros_like(caps)
        if ranking == "global":
            return self._lowest(prune, caps)
        if ranking == "layer_adaptive":
            return _layer_adaptive(self.upper, caps, prune)
        return _by_density(self.layers, caps, prune, ranking)

    def thresholds(self, numbers: np.ndarray) -> list[Threshold]:
        """Threshold of each layer under which exactly ``numbers`` of its candidates lie."""
        upto = np.cumsum(self.upper.table, axis=1)
        columns = (upto < numbers[:, None]).sum(1)  # where the last pruned candidate of each layer lies
        cuts = self.upper.halves[np.minimum(columns, max(self.upper.halves.size - 1, 0))] if numbers.any() else columns
        lower = count_lower_halves(self.layers, cuts)
        result = []
        for index, number in enumerate(numbers):
            before = upto[index, columns[index] - 1] if number and columns[index] else 0
            result.append(_threshold(int(cuts[index]), lower.halves, lower.table[index], int(number - before)))
        return result

    def _lowest(self, prune: int, caps: np.ndarray) -> np.ndarray:
        """Global ranking: all below one upper half, and of the keys with that half the lowest."""
        held = np.minimum(np.cumsum(self.upper.table, axis=1), caps[:, None]).sum(0)
        column = int(np.searchsorted(held, prune))
        below = np.minimum(self.upper.table[:, :column].sum(1), caps)
        lower = count_lower_halves(self.layers, np.full(len(self.layers), self.upper.halves[column]))
        rest = np.minimum(np.cumsum(lower.table, axis=1), (caps - below)[:, None])
        numbers = np.diff(rest, axis=1, prepend=0)
        layer, key = np.nonzero(numbers)
        order = np.lexsort((layer, key))
        taken = _take_first(layer[order], numbers[layer, key][order], prune - int(below.sum()), len(caps))
        return below + taken


def kept(layer: Layer, threshold: Threshold) -> Iterator[Tensor]:
    """For each slice of ``layer.scores()`` the booleans of the candidates that survive."""
    ties_left: Tensor | int = threshold.ties
    for scores in layer.scores():
        if cpu.supports(scores):
            keep, ties_left = cpu.select_kept(scores, threshold.key, int(ties_left))
            yield keep
            continue
        keys = keys_of(scores)
        if threshold.ties == 0:
            yield keys >= threshold.key
            continue
        equal = keys == threshold.key
        # a running number of ties tells the first ones, without waiting for the device
        rank = equal.cumsum(0, dtype=torch.int32)
        yield (keys > threshold.key) | (equal & (rank > ties_left))
        if rank.numel():
            ties_left = ties_left - rank[-1]


def _layer_adaptive(upper: Counts, caps: np.ndarray, prune: int) -> np.ndarray:
    """Numbers to prune per layer when every score is replaced by LAMP's."""
    squares = np.square(np.maximum(lower_edges(upper.halves), 0.0))
    parts = []
    for index, (row, cap) in enumerate(zip(upper.table, caps, strict=True)):
        column = np.flatnonzero(row)
        number = row[column]
        tails = np.cumsum((squares[column] * number)[::-1])[::-1]
        scores = np.divide(squares[column], tails, out=np.zeros(column.size), where=tails > 0)
        upto = np.minimum(np.cumsum(number), cap)
        parts.append((np.full(column.size, index), column, scores, np.diff(upto, prepend=0)))
    layer, column, scores, number = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((layer, column, scores))
    return _take_first(layer[order], number[order], prune, len(caps))


def _by_density(layers: Sequence[Layer], caps: np.ndarray, prune: int, ranking: str) -> np.ndarray:
    """Numbers to prune per layer so that its density is the one that ``ranking`` prescribes."""
    sizes = np.array([layer.size for layer in layers], dtype=np.float64)
    candidates = np.array([layer.candidates for layer in layers], dtype=np.float64)
    budget = candidates.sum() - prune
    weight = np.array([sum(x.shape) for x in layers], dtype=np.float64) if ranking == "erk" else sizes
    keep = _fill(weight, lowest=candidates - caps, highest=candidates, total=budget)
    return round_to_total(candidates - keep, caps, prune)


def _fill(weight: np.ndarray, lowest: np.ndarray, highest: np.ndarray, total: float) -> np.ndarray:
    """``clip(c * weight, lowest, highest)`` with the c for which it sums to ``total`` (found by bisection)."""
    low, high = 0.0, float((highest / weight).max()) if len(weight) else 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * weight, lowest, highest).sum() < total:
            low = middle
        else:
            high = middle
    return np.clip(high * weight, lowest, highest)


def round_to_total(values: np.ndarray, caps: np.ndarray, total: int) -> np.ndarray:
    """Integers nearest to ``values``, between 0 and ``caps``, that sum to ``total``: largest remainders first."""
    counts = np.clip(np.floor(values), 0, caps).astype(np.int64)
    for index in np.argsort(counts - values, kind="stable"):
        if counts.sum() >= total:
            break
        counts[index] = min(counts[index] + 1, caps[index])
    missing = total - int(counts.sum())
    for index in np.argsort(counts - caps, kind="stable"):  # what caps or bisection left over, most room first
        change = int(np.clip(missing, -counts[index], caps[index] - counts[index]))
        counts[index] += change
        missing -= change
    return counts


def _take_first(layer: np.ndarray, number: np.ndarray, total: int, layers: int) -> np.ndarray:
    """Go through groups of candidates in order, take ``total`` of them, and count per layer."""
    taken = np.diff(np.minimum(np.cumsum(number), total), prepend=0)
    return np.bincount(layer, weights=taken, minlength=layers).astype(np.int64)


def _threshold(upper: int, lower: np.ndarray, row: np.ndarray, inside: int) -> Threshold:
    """Threshold below which ``inside`` of the candidates with this upper half lie, and all with a lower one."""
    if inside == 0:
        return Threshold(-(1 << 31), 0)
    cumulated = np.cumsum(row)
    column = int(np.searchsorted(cumulated, inside))
    ties = inside - int(cumulated[column - 1] if column else 0)
    key = ((upper - HALF // 2) << 16) + int(lower[column])
    return Threshold(key + 1, 0) if ties == row[column] else Threshold(key, ties)
