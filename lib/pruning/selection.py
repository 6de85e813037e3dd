"""Choose which weights to prune: an exact selection of the lowest scores over many layers, in little memory.

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
from .score_histogram import NUM_BINS, LayerScores, ScoreHistogram, bin_edges, count_coarse, count_fine, keys_of

SCORE_FREE = ("uniform", "erk")  # rankings that give every layer its number whatever the scores are
RANKINGS = ("global", "layer_adaptive", *SCORE_FREE)


@dataclass(frozen=True)
class Threshold:
    """Prune the scores whose key is below ``key``, and the first ``ties`` of those equal to it."""

    key: int
    ties: int


def min_survivors(size: int, min_density: float) -> int:
    """Return how many of a layer's ``size`` weights must survive: the given fraction rounded up, and at least one."""
    return max(1, int(np.ceil(min_density * size)))


class Selection:
    """Rank the scores of several layers: counted once, then cut where it is asked for.

    Args:
        layers: all layers that take part.

    Raises:
        NotFinite: a score is NaN or infinite; the layer is named.
    """

    def __init__(self, layers: Sequence[LayerScores]) -> None:
        self.layers = layers
        self.max_prune = np.array([max(layer.candidates - layer.min_kept, 0) for layer in layers], dtype=np.int64)
        self.coarse = count_coarse(layers)

    def prune_counts(self, prune: int, ranking: str, max_prune: np.ndarray | None = None) -> np.ndarray:
        """Return how many to prune in each layer so that they are ``prune`` altogether.

        Args:
            prune: number of candidates to prune over all layers.
            ranking: ``global`` (the lowest scores wherever they are), ``layer_adaptive`` (as LAMP, arXiv 2010.07611:
                each squared score over the sum of the squares not smaller in its layer; computed from scores cut to
                bfloat16), ``uniform`` (the same density everywhere) or ``erk`` (density in proportion to the sum of a
                layer's dimensions over their product, arXiv 1911.11134).
            max_prune: how many to prune in each layer at most; by default all but its floor.

        Raises:
            ValueError: unknown ranking, or more to prune than the layers' floors allow.
        """
        max_prune = self.max_prune if max_prune is None else max_prune
        if ranking not in RANKINGS:
            raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
        if prune > max_prune.sum():
            raise ValueError(f"cannot prune {prune} weights: the layers' floors leave {max_prune.sum()} to prune")
        if prune == 0:
            return np.zeros_like(max_prune)
        if ranking == "global":
            return self._lowest(prune, max_prune)
        if ranking == "layer_adaptive":
            return _layer_adaptive(self.coarse, max_prune, prune)
        return _by_density(self.layers, max_prune, prune, ranking)

    def thresholds(self, prune_counts: np.ndarray) -> list[Threshold]:
        """Return the threshold of each layer under which exactly ``prune_counts`` of its candidates lie."""
        cumulated = np.cumsum(self.coarse.table, axis=1)
        columns = (cumulated < prune_counts[:, None]).sum(1)  # where the last pruned candidate of each layer lies
        last = max(self.coarse.bins.size - 1, 0)
        cuts = self.coarse.bins[np.minimum(columns, last)] if prune_counts.any() else columns
        fine = count_fine(self.layers, cuts)
        thresholds = []
        for index, count in enumerate(prune_counts):
            before = cumulated[index, columns[index] - 1] if count and columns[index] else 0
            thresholds.append(_threshold(int(cuts[index]), fine.bins, fine.table[index], int(count - before)))
        return thresholds

    def _lowest(self, prune: int, max_prune: np.ndarray) -> np.ndarray:
        """Rank globally: prune all below one coarse bin, and the lowest keys in it."""
        cumulated = np.minimum(np.cumsum(self.coarse.table, axis=1), max_prune[:, None]).sum(0)
        column = int(np.searchsorted(cumulated, prune))
        below = np.minimum(self.coarse.table[:, :column].sum(1), max_prune)
        fine = count_fine(self.layers, np.full(len(self.layers), self.coarse.bins[column]))
        in_bin = np.diff(np.minimum(np.cumsum(fine.table, axis=1), (max_prune - below)[:, None]), axis=1, prepend=0)
        layer, key = np.nonzero(in_bin)
        order = np.lexsort((layer, key))
        taken = _take_first(layer[order], in_bin[layer, key][order], prune - int(below.sum()), len(max_prune))
        return below + taken


def keep_masks(layer: LayerScores, threshold: Threshold) -> Iterator[Tensor]:
    """Yield, for each slice of ``layer.scores()``, booleans that tell which candidates survive."""
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


def _layer_adaptive(coarse: ScoreHistogram, max_prune: np.ndarray, prune: int) -> np.ndarray:
    """Return how many to prune per layer if every score is replaced by LAMP's."""
    squares = np.square(np.maximum(bin_edges(coarse.bins), 0.0))
    groups = []
    for index, (row, limit) in enumerate(zip(coarse.table, max_prune, strict=True)):
        column = np.flatnonzero(row)
        count = row[column]
        tails = np.cumsum((squares[column] * count)[::-1])[::-1]
        scores = np.divide(squares[column], tails, out=np.zeros(column.size), where=tails > 0)
        cumulated = np.minimum(np.cumsum(count), limit)
        groups.append((np.full(column.size, index), column, scores, np.diff(cumulated, prepend=0)))
    layer, column, scores, count = (np.concatenate(values) for values in zip(*groups, strict=True))
    order = np.lexsort((layer, column, scores))
    return _take_first(layer[order], count[order], prune, len(max_prune))


def _by_density(layers: Sequence[LayerScores], max_prune: np.ndarray, prune: int, ranking: str) -> np.ndarray:
    """Return how many to prune per layer for the densities that ``ranking`` prescribes."""
    sizes = np.array([layer.size for layer in layers], dtype=np.float64)
    candidates = np.array([layer.candidates for layer in layers], dtype=np.float64)
    budget = candidates.sum() - prune
    proportions = np.array([sum(x.shape) for x in layers], dtype=np.float64) if ranking == "erk" else sizes
    keep = _scale_to_budget(proportions, lowest=candidates - max_prune, highest=candidates, budget=budget)
    return round_to_total(candidates - keep, max_prune, prune)


def _scale_to_budget(proportions: np.ndarray, lowest: np.ndarray, highest: np.ndarray, budget: float) -> np.ndarray:
    """Return ``clip(c * proportions, lowest, highest)`` with the c for which it sums to ``budget``, by bisection."""
    low, high = 0.0, float((highest / proportions).max()) if len(proportions) else 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * proportions, lowest, highest).sum() < budget:
            low = middle
        else:
            high = middle
    return np.clip(high * proportions, lowest, highest)


def round_to_total(values: np.ndarray, highest: np.ndarray, total: int) -> np.ndarray:
    """Return integers nearest to ``values``, from 0 to ``highest``, that sum to ``total``: largest remainders first."""
    counts = np.clip(np.floor(values), 0, highest).astype(np.int64)
    for index in np.argsort(counts - values, kind="stable"):
        if counts.sum() >= total:
            break
        counts[index] = min(counts[index] + 1, highest[index])
    missing = total - int(counts.sum())
    for index in np.argsort(counts - highest, kind="stable"):  # what limits or bisection left over, most room first
        change = int(np.clip(missing, -counts[index], highest[index] - counts[index]))
        counts[index] += change
        missing -= change
    return counts


def _take_first(layer: np.ndarray, count: np.ndarray, total: int, layers: int) -> np.ndarray:
    """Go through groups of candidates in order, take ``total`` of them, and count per layer."""
    taken = np.diff(np.minimum(np.cumsum(count), total), prepend=0)
    return np.bincount(layer, weights=taken, minlength=layers).astype(np.int64)


def _threshold(coarse_bin: int, fine_bins: np.ndarray, row: np.ndarray, inside: int) -> Threshold:
    """Return the threshold below which ``inside`` of the candidates in this coarse bin lie, and all in lower ones."""
    if inside == 0:
        return Threshold(-(1 << 31), 0)
    cumulated = np.cumsum(row)
    column = int(np.searchsorted(cumulated, inside))
    ties = inside - int(cumulated[column - 1] if column else 0)
    key = ((coarse_bin - NUM_BINS // 2) << 16) + int(fine_bins[column])
    return Threshold(key + 1, 0) if ties == row[column] else Threshold(key, ties)
