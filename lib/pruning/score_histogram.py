"""How many candidates have which scores: counted per layer, in little memory.

A score is read as a sortable 32-bit key. Its upper half, the score cut to bfloat16, is counted first; where more detail
is needed, the lower halves of those keys that share an upper half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import cpu, host

HALF = 1 << 16  # number of values of half a key
_INFINITY = 0x7F80 + HALF // 2  # bin of +inf; NaN lies there and above, -inf and -NaN below the mirrored bin


class NotFinite(ValueError):
    """A score is NaN or infinite: training has diverged."""


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
class Counts:
    """How often each half key occurs in each layer.

    Attributes:
        halves: those that occur at all, ascending, int64.
        table: numbers, int64 of shape (layers, halves).
    """

    halves: np.ndarray
    table: np.ndarray


def count_upper_halves(layers: Sequence[Layer]) -> Counts:
    """Of all candidates. Raises NotFinite where a score is NaN or infinite."""

    def tally(scores: Tensor, _: int, counts: Tensor) -> None:
        if cpu.supports(scores):
            cpu.histogram(scores, counts)
        else:
            _tally((keys_of(scores) >> 16) + HALF // 2, counts)

    counts = _count(layers, tally)
    _check(layers, counts)
    return counts


def count_lower_halves(layers: Sequence[Layer], upper: np.ndarray) -> Counts:
    """Of those candidates whose upper half is the layer's entry of ``upper``."""

    def tally(scores: Tensor, index: int, counts: Tensor) -> None:
        if cpu.supports(scores):
            cpu.histogram(scores, counts, int(upper[index]))
            return
        keys = keys_of(scores)
        inside = (keys >> 16) + HALF // 2 == int(upper[index])
        _tally(torch.where(inside, keys & 0xFFFF, HALF), counts)  # the rest goes into one bin past the end

    return _count(layers, tally)


def _check(layers: Sequence[Layer], upper: Counts) -> None:
    outside = (upper.halves >= _INFINITY) | (upper.halves < HALF - _INFINITY)
    for layer, row in zip(layers, upper.table, strict=True):
        if row[outside].any():
            raise NotFinite(f"layer {layer.name}: a score is NaN or infinite, so its weights cannot be ranked")
        if row.sum() != layer.candidates:
            raise AssertionError(f"layer {layer.name}: {row.sum()} scores for {layer.candidates} candidates")


def keys_of(scores: Tensor) -> Tensor:
    """int32 keys in the order of the float scores; -0.0 counts as 0.0."""
    bits = (scores.float() + 0.0).view(torch.int32)
    # of a negative float all bits but the sign are turned over: the larger its size, the lower its key
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def lower_edges(halves: np.ndarray) -> np.ndarray:
    """The score of least magnitude with each upper half, float64: the half read as bfloat16."""
    upper = (halves - HALF // 2).astype(np.int32)
    bits = np.where(upper < 0, (upper << 16) ^ 0x7FFF0000, upper << 16)
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


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
    scores = lower_edges(upper.halves)
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


def _count(layers: Sequence[Layer], tally: Callable[[Tensor, int, Tensor], None]) -> Counts:
    """One row of counts per layer, brought to the host in one transfer."""
    rows = []
    for index, layer in enumerate(layers):
        counts: Tensor | None = None
        for scores in layer.scores():
            if counts is None:
                counts = torch.zeros(HALF + 1, dtype=torch.int32, device=scores.device)
            tally(scores, index, counts)
        rows.append(torch.zeros(HALF + 1, dtype=torch.int32, device="cpu") if counts is None else counts)
    if not rows:
        return Counts(np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64))
    device = next((row.device for row in rows if row.is_cuda), rows[0].device)
    stacked = torch.stack([row.to(device) for row in rows])[:, :HALF]
    table = host.current().histograms(stacked, [layer.candidates for layer in layers])
    halves = np.flatnonzero(table.any(0))
    return Counts(halves, table[:, halves].astype(np.int64))


def _tally(indices: Tensor, counts: Tensor) -> None:
    """Add the number of occurrences of each index to ``counts`` (in place, no host synchronisation)."""
    if host.current().can_read(indices):
        counts += torch.bincount(indices, minlength=HALF + 1)
    else:
        counts.scatter_add_(0, indices.long(), torch.ones_like(indices, dtype=counts.dtype))
