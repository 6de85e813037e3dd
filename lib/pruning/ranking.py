"""Which weights to prune: exact selection of the lowest scores over many layers, in little memory.

Scores are never concatenated or sorted. Each is read as a sortable 32-bit key; one pass counts the upper halves of
the keys per layer, a second pass the lower halves around each layer's threshold. Two small tables then tell, to the
single weight, how many to prune in each layer and below which key. Scores are produced a slice at a time by the caller,
once per pass. Ties are broken by index: of equal scores the weight that lies first in its layer is pruned first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotFinite(ValueError):
    """A score is NaN or infinite: training has diverged."""


RANKINGS = ("global", "layer_adaptive", "uniform", "erk")

_HALF = 1 << 16  # number of values of half a key
_INFINITY = 0x7F80 + _HALF // 2  # bin of +inf; NaN lies there and above, -inf and -NaN below the mirrored bin


@dataclass(frozen=True)
class Layer:
    """The weights of one layer that may be pruned now.

    Attributes:
        name: for messages.
        shape: of the whole weight tensor.
        candidates: how many scores ``scores()`` gives in all; the layer's other weights are pruned already.
        scores: gives the candidates' scores in order, as flat float tensors slice by slice, anew at every call.
        keep: how many of the candidates must survive whatever their scores.
    """

    name: str
    shape: tuple[int, ...]
    candidates: int
    scores: Callable[[], Iterator[Tensor]]
    keep: int = 0

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


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
        self.upper = _count_upper_halves(layers)
        _check_counts(layers, self.upper)

    def numbers(self, prune: int, ranking: str) -> np.ndarray:
        """How many to prune in each layer so that they are ``prune`` altogether.

        Args:
            prune: number of candidates to prune over all layers.
            ranking: ``global`` (the lowest scores wherever they are), ``layer_adaptive`` (as LAMP, arXiv 2010.07611:
                each squared score over the sum of the squares not smaller in its layer; computed from scores cut to
                bfloat16), ``uniform`` (the same density everywhere) or ``erk`` (density in proportion to the sum of a
                layer's dimensions over their product, arXiv 1911.11134).

        Raises:
            ValueError: unknown ranking, or more to prune than the layers' floors allow.
        """
        if ranking not in RANKINGS:
            raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
        if prune > self.caps.sum():
            raise ValueError(f"cannot prune {prune} weights: the layers' floors leave {self.caps.sum()} to prune")
        if prune == 0:
            return np.zeros_like(self.caps)
        if ranking == "global":
            return self._lowest(prune)
        if ranking == "layer_adaptive":
            return _layer_adaptive(self.upper, self.caps, prune)
        return _by_density(self.layers, self.caps, prune, ranking)

    def thresholds(self, numbers: np.ndarray) -> list[Threshold]:
        """Threshold of each layer under which exactly ``numbers`` of its candidates lie."""
        upto = np.cumsum(self.upper.table, axis=1)
        columns = (upto < numbers[:, None]).sum(1)  # where the last pruned candidate of each layer lies
        cuts = self.upper.halves[np.minimum(columns, max(self.upper.halves.size - 1, 0))] if numbers.any() else columns
        lower = _count_lower_halves(self.layers, cuts)
        result = []
        for index, number in enumerate(numbers):
            before = upto[index, columns[index] - 1] if number and columns[index] else 0
            result.append(_threshold(int(cuts[index]), lower.halves, lower.table[index], int(number - before)))
        return result

    def _lowest(self, prune: int) -> np.ndarray:
        """Global ranking: all below one upper half, and of the keys with that half the lowest."""
        held = np.minimum(np.cumsum(self.upper.table, axis=1), self.caps[:, None]).sum(0)
        column = int(np.searchsorted(held, prune))
        below = np.minimum(self.upper.table[:, :column].sum(1), self.caps)
        lower = _count_lower_halves(self.layers, np.full(len(self.layers), self.upper.halves[column]))
        rest = np.minimum(np.cumsum(lower.table, axis=1), (self.caps - below)[:, None])
        numbers = np.diff(rest, axis=1, prepend=0)
        layer, key = np.nonzero(numbers)
        order = np.lexsort((layer, key))
        taken = _take_first(layer[order], numbers[layer, key][order], prune - int(below.sum()), len(self.caps))
        return below + taken


def kept(layer: Layer, threshold: Threshold) -> Iterator[Tensor]:
    """For each slice of ``layer.scores()`` the booleans of the candidates that survive."""
    ties_left: Tensor | int = threshold.ties
    for scores in layer.scores():
        keys = _keys(scores)
        if threshold.ties == 0:
            yield keys >= threshold.key
            continue
        equal = keys == threshold.key
        # a running number of ties tells the first ones, without waiting for the device
        rank = equal.cumsum(0, dtype=torch.int32)
        yield (keys > threshold.key) | (equal & (rank > ties_left))
        if rank.numel():
            ties_left = ties_left - rank[-1]


@dataclass(frozen=True)
class Update:
    """What one mask update ranked and pruned: step, sparsity after it, counted scores, numbers pruned per layer."""

    step: int
    sparsity: float
    upper: Counts
    numbers: np.ndarray

    def describe(self) -> dict[str, Any]:
        """For a picture: ``step``, ``sparsity`` and the histogram's ``edges``, ``counts`` and ``pruned``."""
        return {"step": self.step, "sparsity": self.sparsity, **histogram(self.upper, self.numbers)}


def histogram(upper: Counts, numbers: np.ndarray, bins: int = 40) -> dict[str, list[float]]:
    """What a selection ranked: candidates per interval of positive scores, and how many of them were pruned.

    Args:
        upper: ``Selection.upper``.
        numbers: how many were pruned in each layer.
        bins: number of intervals, evenly spaced on a logarithmic axis.

    Returns ``edges`` (bins + 1), ``counts`` and ``pruned`` (bins each); all empty where no score is positive.
    """
    scores = _lower_edges(upper.halves)
    seen = scores > 0
    if not seen.any():
        return {"edges": [], "counts": [], "pruned": []}
    lowest, highest = scores[seen].min(), scores[seen].max()
    edges = np.geomspace(lowest, 1.01 * highest, bins + 1)  # 1.01: the scores were cut to bfloat16
    edges[0] = lowest
    pruned = np.diff(np.minimum(np.cumsum(upper.table, axis=1), numbers[:, None]), axis=1, prepend=0).sum(0)
    return {
        "edges": edges.tolist(),
        "counts": np.histogram(scores[seen], edges, weights=upper.table.sum(0)[seen])[0].tolist(),
        "pruned": np.histogram(scores[seen], edges, weights=pruned[seen])[0].tolist(),
    }


def _keys(scores: Tensor) -> Tensor:
    """int32 keys in the order of the float scores; -0.0 counts as 0.0."""
    bits = (scores.float() + 0.0).view(torch.int32)
    # of a negative float all bits but the sign are turned over: the larger its size, the lower its key
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def _tally(indices: Tensor, counts: Tensor) -> None:
    """Add the number of occurrences of each index to ``counts`` (in place, no host synchronisation)."""
    if indices.is_cuda:
        counts.scatter_add_(0, indices.long(), torch.ones_like(indices, dtype=counts.dtype))
    else:
        counts += torch.bincount(indices, minlength=_HALF + 1)


@dataclass(frozen=True)
class Counts:
    """How often each half key occurs in each layer.

    Attributes:
        halves: those that occur at all, ascending, int64.
        table: numbers, int64 of shape (layers, halves).
    """

    halves: np.ndarray
    table: np.ndarray


def _count_upper_halves(layers: Sequence[Layer]) -> Counts:
    """Of all candidates."""

    def tally(scores: Tensor, _: int, counts: Tensor) -> None:
        _tally((_keys(scores) >> 16) + _HALF // 2, counts)

    return _count(layers, tally)


def _count_lower_halves(layers: Sequence[Layer], upper: np.ndarray) -> Counts:
    """Of those candidates whose upper half is the layer's entry of ``upper``."""

    def tally(scores: Tensor, index: int, counts: Tensor) -> None:
        keys = _keys(scores)
        inside = (keys >> 16) + _HALF // 2 == int(upper[index])
        _tally(torch.where(inside, keys & 0xFFFF, _HALF), counts)  # the rest goes into one bin past the end

    return _count(layers, tally)


def _count(layers: Sequence[Layer], tally: Callable[[Tensor, int, Tensor], None]) -> Counts:
    """One row of counts per layer, brought to the host in one transfer."""
    rows = []
    for index, layer in enumerate(layers):
        counts: Tensor | None = None
        for scores in layer.scores():
            if counts is None:
                counts = torch.zeros(_HALF + 1, dtype=torch.int32, device=scores.device)
            tally(scores, index, counts)
        rows.append(torch.zeros(_HALF + 1, dtype=torch.int32) if counts is None else counts)
    if not rows:
        return Counts(np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64))
    device = next((row.device for row in rows if row.is_cuda), rows[0].device)
    table = torch.stack([row.to(device) for row in rows])[:, :_HALF].cpu().numpy()
    halves = np.flatnonzero(table.any(0))
    return Counts(halves, table[:, halves].astype(np.int64))


def _check_counts(layers: Sequence[Layer], upper: Counts) -> None:
    outside = (upper.halves >= _INFINITY) | (upper.halves < _HALF - _INFINITY)
    for layer, row in zip(layers, upper.table, strict=True):
        if row[outside].any():
            raise NotFinite(f"layer {layer.name}: a score is NaN or infinite, so its weights cannot be ranked")
        if row.sum() != layer.candidates:
            raise AssertionError(f"layer {layer.name}: {row.sum()} scores for {layer.candidates} candidates")


def _layer_adaptive(upper: Counts, caps: np.ndarray, prune: int) -> np.ndarray:
    """Numbers to prune per layer when every score is replaced by LAMP's."""
    squares = np.square(np.maximum(_lower_edges(upper.halves), 0.0))
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


def _lower_edges(halves: np.ndarray) -> np.ndarray:
    """The score of least magnitude with each upper half, float64: the half read as bfloat16."""
    upper = (halves - _HALF // 2).astype(np.int32)
    bits = np.where(upper < 0, (upper << 16) ^ 0x7FFF0000, upper << 16)
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


def _by_density(layers: Sequence[Layer], caps: np.ndarray, prune: int, ranking: str) -> np.ndarray:
    """Numbers to prune per layer so that its density is the one that ``ranking`` prescribes."""
    sizes = np.array([layer.size for layer in layers], dtype=np.float64)
    candidates = np.array([layer.candidates for layer in layers], dtype=np.float64)
    budget = candidates.sum() - prune
    weight = np.array([sum(x.shape) for x in layers], dtype=np.float64) if ranking == "erk" else sizes
    keep = _fill(weight, lowest=candidates - caps, highest=candidates, total=budget)
    return _round_to_total(candidates - keep, caps, prune)


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


def _round_to_total(values: np.ndarray, caps: np.ndarray, total: int) -> np.ndarray:
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
    key = ((upper - _HALF // 2) << 16) + int(lower[column])
    return Threshold(key + 1, 0) if ties == row[column] else Threshold(key, ties)
