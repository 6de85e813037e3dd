"""Count how many candidates of each layer have which scores, in little memory.

A score is read as a sortable 32-bit key. A coarse histogram counts the upper halves of the keys, which is the score cut
to bfloat16. Where more detail is needed, a fine histogram counts the lower halves of the keys within one coarse bin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import cpu, host

NUM_BINS = 1 << 16  # number of values of half a key
_INFINITY_BIN = 0x7F80 + NUM_BINS // 2  # coarse bin of +inf; NaN lies there and above, -inf and -NaN mirrored below


class NotFinite(ValueError):
    """Say that a score is NaN or infinite: training has diverged."""


@dataclass(frozen=True)
class LayerScores:
    """Describe the weights of one layer that may be pruned now.

    Attributes:
        name: for messages.
        shape: of the whole weight tensor.
        candidates: how many scores ``scores()`` gives in all; the layer's other weights are pruned already.
        scores: returns the candidates' scores in order, as flat float tensors slice by slice, anew at every call.
        min_kept: how many of the candidates must survive whatever their scores.
    """

    name: str
    shape: tuple[int, ...]
    candidates: int
    scores: Callable[[], Iterator[Tensor]]
    min_kept: int = 0

    @property
    def size(self) -> int:
        """Return the number of weights of the layer, pruned ones included."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class ScoreHistogram:
    """Hold how often each half key occurs in each layer.

    Attributes:
        bins: the half keys that occur at all, ascending, int64.
        table: number of scores in each bin, int64 of shape (layers, bins).
    """

    bins: np.ndarray
    table: np.ndarray


def count_coarse(layers: Sequence[LayerScores]) -> ScoreHistogram:
    """Count the upper halves of all candidates' keys.

    Raises:
        NotFinite: a score is NaN or infinite; the layer is named.
    """

    def add(scores: Tensor, _: int, counts: Tensor) -> None:
        if cpu.supports(scores):
            cpu.histogram(scores, counts)
        else:
            _add_counts((keys_of(scores) >> 16) + NUM_BINS // 2, counts)

    coarse = _count(layers, add)
    _check(layers, coarse)
    return coarse


def count_fine(layers: Sequence[LayerScores], coarse_bins: np.ndarray) -> ScoreHistogram:
    """Count the lower halves of those keys whose upper half is the layer's entry of ``coarse_bins``."""

    def add(scores: Tensor, index: int, counts: Tensor) -> None:
        coarse_bin = int(coarse_bins[index])
        if cpu.supports(scores):
            cpu.histogram(scores, counts, coarse_bin)
            return
        keys = keys_of(scores)
        inside = (keys >> 16) + NUM_BINS // 2 == coarse_bin
        _add_counts(torch.where(inside, keys & 0xFFFF, NUM_BINS), counts)  # the rest goes into one bin past the end

    return _count(layers, add)


def _check(layers: Sequence[LayerScores], coarse: ScoreHistogram) -> None:
    not_finite = (coarse.bins >= _INFINITY_BIN) | (coarse.bins < NUM_BINS - _INFINITY_BIN)
    for layer, row in zip(layers, coarse.table, strict=True):
        if row[not_finite].any():
            raise NotFinite(f"layer {layer.name}: a score is NaN or infinite, so its weights cannot be ranked")
        if row.sum() != layer.candidates:
            raise AssertionError(f"layer {layer.name}: {row.sum()} scores for {layer.candidates} candidates")


def keys_of(scores: Tensor) -> Tensor:
    """Return int32 keys in the order of the float scores; -0.0 counts as 0.0."""
    bits = (scores.float() + 0.0).view(torch.int32)
    # a negative float has all bits but the sign inverted: the larger its magnitude, the lower its key
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def bin_edges(bins: np.ndarray) -> np.ndarray:
    """Return the score of least magnitude in each coarse bin, float64: the bin read as bfloat16."""
    upper = (bins - NUM_BINS // 2).astype(np.int32)
    bits = np.where(upper < 0, (upper << 16) ^ 0x7FFF0000, upper << 16)
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class MaskUpdate:
    """Record what one mask update ranked and pruned.

    Attributes:
        step: optimizer step after which the update took place.
        sparsity: fraction of the prunable weights that is pruned after it.
        coarse: histogram of the scores that were ranked.
        pruned: number of candidates pruned in each layer, int64.
    """

    step: int
    sparsity: float
    coarse: ScoreHistogram
    pruned: np.ndarray

    def describe(self) -> dict[str, Any]:
        """Return plain values for a plot: ``step``, ``sparsity`` and the lists of ``log_histogram``."""
        return {"step": self.step, "sparsity": self.sparsity, **log_histogram(self.coarse, self.pruned)}


def log_histogram(coarse: ScoreHistogram, pruned: np.ndarray, bins: int = 40) -> dict[str, list[float]]:
    """Count the positive scores, and those pruned, in bins evenly spaced on a logarithmic axis.

    Args:
        coarse: histogram of the scores that were ranked.
        pruned: number of candidates pruned in each layer.
        bins: number of bins.

    Returns:
        ``edges`` (bins + 1), ``counts`` and ``pruned`` (bins each); all empty where no score is positive.
    """
    scores = bin_edges(coarse.bins)
    positive = scores > 0
    if not positive.any():
        return {"edges": [], "counts": [], "pruned": []}
    lowest, highest = scores[positive].min(), scores[positive].max()
    edges = np.geomspace(lowest, 1.01 * highest, bins + 1)  # 1.01: the scores were cut to bfloat16
    edges[0] = lowest
    lowest_first = np.minimum(np.cumsum(coarse.table, axis=1), pruned[:, None])
    pruned_in_bin = np.diff(lowest_first, axis=1, prepend=0).sum(0)
    return {
        "edges": edges.tolist(),
        "counts": np.histogram(scores[positive], edges, weights=coarse.table.sum(0)[positive])[0].tolist(),
        "pruned": np.histogram(scores[positive], edges, weights=pruned_in_bin[positive])[0].tolist(),
    }


def _count(layers: Sequence[LayerScores], add: Callable[[Tensor, int, Tensor], None]) -> ScoreHistogram:
    """Count with ``add(scores, layer_index, counts)``; the counts come to the host in one transfer."""
    rows = []
    for index, layer in enumerate(layers):
        counts: Tensor | None = None
        for scores in layer.scores():
            if counts is None:
                counts = torch.zeros(NUM_BINS + 1, dtype=torch.int32, device=scores.device)
            add(scores, index, counts)
        rows.append(torch.zeros(NUM_BINS + 1, dtype=torch.int32, device="cpu") if counts is None else counts)
    if not rows:
        return ScoreHistogram(np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64))
    device = next((row.device for row in rows if row.is_cuda), rows[0].device)
    stacked = torch.stack([row.to(device) for row in rows])[:, :NUM_BINS]
    table = host.current().histograms(stacked, [layer.candidates for layer in layers])
    bins = np.flatnonzero(table.any(0))
    return ScoreHistogram(bins, table[:, bins].astype(np.int64))


def _add_counts(indices: Tensor, counts: Tensor) -> None:
    """Add the number of occurrences of each index to ``counts``, in place, without waiting for a GPU."""
    if host.current().can_read(indices):
        counts += torch.bincount(indices, minlength=NUM_BINS + 1)
    else:
        counts.scatter_add_(0, indices.long(), torch.ones_like(indices, dtype=counts.dtype))
