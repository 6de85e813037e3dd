"""Update the masks of AdamWPrune: which weights stay, and which of them hold moments.

Each function looks at all prunable tensors together, chooses by their scores, and then changes states and weights. The
numbers are exact: what cannot be reached is an error, never an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..pruning import masks
from ..pruning.criteria import Criterion
from ..pruning.score_histogram import LayerScores, MaskUpdate, bin_edges
from ..pruning.selection import SCORE_FREE, Selection, keep_masks, min_survivors, round_to_total
from . import checks, lean, sparse_scores, sparse_state


class PrunableTensor(NamedTuple):
    """A prunable tensor with its state and the settings of its parameter group."""

    weight: Tensor
    state: sparse_state.State
    group: dict[str, Any]

    @property
    def size(self) -> int:
        """Return the number of its weights."""
        return self.weight.numel()

    @property
    def num_with_moments(self) -> int:
        """Return how many of its weights hold moments."""
        return self.state["exp_avg"].numel() if "mask" in self.state else self.size

    @property
    def num_survivors(self) -> int:
        """Return how many of its weights are not pruned."""
        return lean.num_survivors(self.weight) if "row_avg_sq" in self.state else self.num_with_moments


@dataclass(frozen=True)
class PruningRule:
    """Hold how weights are ranked: see the arguments of ``AdamWPrune``."""

    criterion: Criterion
    exponent: float
    ranking: str
    min_density: float

    def layer(self, index: int, tensor: PrunableTensor, scores: sparse_scores.Scores, candidates: int) -> LayerScores:
        """Return what the ranking needs to know of a tensor of which ``candidates`` weights have scores."""
        shape = tuple(tensor.weight.shape)
        name = checks.name_of(tensor.weight, tensor.group) or f"{index} of shape {shape}"
        return LayerScores(name, shape, candidates, scores, min_survivors(tensor.size, self.min_density))


def init_moments(tensors: Sequence[PrunableTensor], rule: PruningRule, sparsity: float, dynamic: bool) -> None:
    """Give moments, before the first step, to as many weights as will survive.

    In lean mode these are the largest. In dynamic mode they are those of largest ``|w g|``, the change of the loss if
    the weight were removed (SNIP, arXiv 1810.02340), wherever they are unless the ranking goes by shape; the others
    are zero from here on. Where a tensor has no gradient yet, layers cannot be compared: ERK and the largest then.
    """
    if not tensors:
        return
    for tensor in tensors:
        checks.check_dense_gradient(tensor.weight, tensor.group)
    comparable = dynamic and all(tensor.weight.grad is not None for tensor in tensors)
    scores = sparse_scores.sensitivities if comparable else sparse_scores.magnitudes
    layers = [rule.layer(i, t, scores(t.weight), t.size) for i, t in enumerate(tensors)]
    selection = Selection(layers)
    without_moments = round(sparsity * sum(layer.size for layer in layers))
    ranking = rule.ranking
    if dynamic and ranking not in SCORE_FREE:
        ranking = "global" if comparable else "erk"
    num_without_moments = selection.prune_counts(without_moments, ranking)
    new_masks = _keep_masks(tensors, selection, num_without_moments)
    kept = _exact_counts(new_masks, tensors, _candidates(layers) - num_without_moments)
    for tensor, bits, per_slice in zip(tensors, new_masks, kept, strict=True):
        sparse_state.init_sparse(tensor.state, tensor.weight, bits, per_slice, bool(tensor.group["fused"]))
        if dynamic:
            masks.zero_pruned(tensor.weight.detach(), bits)
        else:
            lean.init_row_moments(tensor.weight, tensor.state)


def prune(
    tensors: Sequence[PrunableTensor], rule: PruningRule, sparsity: float, exchange: float, step: int
) -> MaskUpdate:
    """Prune up to ``sparsity``, exchange a fraction of the survivors, and free the moments of what is pruned."""
    size = sum(tensor.size for tensor in tensors)
    survivors = sum(tensor.num_with_moments for tensor in tensors)
    remain = min(size - round(sparsity * size), survivors)
    layers = [
        rule.layer(i, t, sparse_scores.importance(*t, rule.criterion, rule.exponent), t.num_with_moments)
        for i, t in enumerate(tensors)
    ]
    selection = Selection(layers)
    num_pruned = selection.prune_counts(survivors - remain, rule.ranking)
    update = MaskUpdate(step, 1 - remain / size, selection.coarse, num_pruned)
    leaving = _exchange_counts(selection, num_pruned, tensors, rule, exchange)
    thresholds = selection.thresholds(num_pruned + leaving)
    new_masks = [
        sparse_state.narrow_mask(tensor.weight, tensor.state, keep_masks(layer, threshold))
        for tensor, layer, threshold in zip(tensors, layers, thresholds, strict=True)
    ]
    returning = _regrow(tensors, new_masks, leaving, rule) if leaving.any() else leaving
    kept = _exact_counts(new_masks, tensors, _candidates(layers) - num_pruned - leaving + returning)
    for (weight, state, group), bits, per_slice, regrown in zip(tensors, new_masks, kept, returning, strict=True):
        initial = sparse_state.squared_gradients(weight, state, group["betas"][1]) if regrown else None
        sparse_state.rebuild(weight, state, bits, per_slice, initial)
        masks.zero_pruned(weight.detach(), bits)
    return update


def reassign_moments(
    tensors: Sequence[PrunableTensor], rule: PruningRule, sparsity: float, final: float, step: int, last: bool
) -> MaskUpdate:
    """Prune up to ``sparsity`` in lean mode, and give the moments to the most important of all weights.

    After the ``last`` update no weight lives without moments, and what rows hold is freed.
    """
    for tensor in tensors:
        if "mask" not in tensor.state:
            lean.init_from_dense(tensor.weight, tensor.state)
        elif "row_avg_sq" not in tensor.state:
            lean.resume_ramp(tensor.weight, tensor.state)
    layers = [rule.layer(i, t, lean.importance(*t, rule.exponent), t.size) for i, t in enumerate(tensors)]
    selection = Selection(layers)
    already = selection.coarse.table[:, bin_edges(selection.coarse.bins) < 0].sum(1)
    size = sum(layer.size for layer in layers)
    # no less than what is pruned already: it may be more than was asked for, where a layer has been frozen since
    pruned, without_moments = (max(round(part * size), int(already.sum())) for part in (sparsity, final))
    counts = selection.prune_counts(without_moments, rule.ranking)
    num_without_moments = _between(already, counts, selection.max_prune, without_moments)
    num_pruned = _between(already, selection.prune_counts(pruned, rule.ranking), num_without_moments, pruned)
    living = _keep_masks(tensors, selection, num_pruned)
    new_masks = _keep_masks(tensors, selection, num_without_moments)
    kept = _exact_counts(new_masks, tensors, _candidates(layers) - num_without_moments)
    for tensor, alive, bits, per_slice in zip(tensors, living, new_masks, kept, strict=True):
        lean.rebuild(tensor.weight, tensor.state, bits, per_slice)
        lean.prune(tensor.weight.detach(), alive, last)
        if last:
            for name in ("row_avg_sq", "row_steps"):
                tensor.state.pop(name, None)
    return MaskUpdate(step, pruned / size, selection.coarse, num_pruned)


def _between(lowest: np.ndarray, counts: np.ndarray, highest: np.ndarray, total: int) -> np.ndarray:
    """Return the counts between the limits, nearest to ``counts`` (rounded budgets by shape), of sum ``total``."""
    extra = round_to_total(np.clip(counts, lowest, highest) - lowest, highest - lowest, total - int(lowest.sum()))
    return np.asarray(lowest + extra)


def _keep_masks(tensors: Sequence[PrunableTensor], selection: Selection, counts: np.ndarray) -> list[Tensor]:
    """Return the bits of all weights but the ``counts`` lowest of each tensor, where every weight is a candidate."""
    thresholds = zip(selection.layers, selection.thresholds(counts), strict=True)
    return [
        sparse_state.narrow_mask(tensor.weight, {}, keep_masks(*threshold))
        for tensor, threshold in zip(tensors, thresholds, strict=True)
    ]


def _exchange_counts(
    selection: Selection,
    num_pruned: np.ndarray,
    tensors: Sequence[PrunableTensor],
    rule: PruningRule,
    fraction: float,
) -> np.ndarray:
    """Return how many survivors of each layer give their place to pruned weights, beyond what the ramp prunes.

    The least important ones wherever they are, or that fraction of every layer where the ranking goes by shape. Layers
    without a gradient take no part.
    """
    has_grad = np.array([tensor.weight.grad is not None for tensor in tensors])
    survivors = np.where(has_grad, _candidates(selection.layers) - num_pruned, 0)
    room = np.where(has_grad, np.maximum(selection.max_prune - num_pruned, 0), 0)
    absent = _absent(tensors)
    if rule.ranking in SCORE_FREE:
        leaving = np.rint(fraction * survivors).astype(np.int64)
        return np.minimum(np.minimum(leaving, absent), room)
    total = min(round(fraction * int(survivors.sum())), int(absent.sum()), int(room.sum()))
    both = selection.prune_counts(int(num_pruned.sum()) + total, rule.ranking, num_pruned + room)
    return both - num_pruned


def _regrow(
    tensors: Sequence[PrunableTensor], new_masks: list[Tensor], leaving: np.ndarray, rule: PruningRule
) -> np.ndarray:
    """Set the bits of as many pruned weights as leave, those with the largest gradients; return how many in each layer.

    Only what was pruned before this update can return: to the layer that others leave where the ranking goes by shape,
    else to any.
    """
    absent = _absent(tensors)
    chosen = np.flatnonzero(leaving if rule.ranking in SCORE_FREE else absent).tolist()
    layers = []
    for index in chosen:
        tensor = tensors[index]
        scores = sparse_scores.pruned_gradients(tensor.weight, tensor.state)
        layer = rule.layer(index, tensor, scores, int(absent[index]))
        layers.append(replace(layer, name=f"{layer.name} (gradient)", min_kept=0))
    selection = Selection(layers)
    staying = absent[chosen] - leaving[chosen]
    if rule.ranking not in SCORE_FREE:
        staying = selection.prune_counts(int(absent.sum() - leaving.sum()), "global")
    for index, layer, threshold in zip(chosen, layers, selection.thresholds(staying), strict=True):
        weight, state, _ = tensors[index]
        sparse_state.add_to_mask(new_masks[index], weight, state, keep_masks(layer, threshold))
    returning = np.zeros_like(leaving)
    returning[chosen] = absent[chosen] - staying
    return returning


def _absent(tensors: Sequence[PrunableTensor]) -> np.ndarray:
    """Return how many pruned weights of each layer have a gradient to return by."""
    return np.array([t.size - t.num_with_moments if t.weight.grad is not None else 0 for t in tensors])


def _candidates(layers: Sequence[LayerScores]) -> np.ndarray:
    return np.array([layer.candidates for layer in layers], dtype=np.int64)


def _exact_counts(bits: Sequence[Tensor], tensors: Sequence[PrunableTensor], expected: np.ndarray) -> list[list[int]]:
    """Return the weights that hold moments per tensor and slice; AssertionError unless they are as many as expected."""
    return masks.exact_counts(bits, [tensor.size for tensor in tensors], expected.tolist())
