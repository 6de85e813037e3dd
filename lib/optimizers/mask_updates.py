"""Mask updates of AdamWPrune: which weights stay, and which of them hold moments.

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
from ..pruning.score_histogram import Layer, Update, lower_edges
from ..pruning.selection import BY_SHAPE, Selection, kept, round_to_total, survivors_at_least
from . import checks, lean, sparse_scores, sparse_state


class Part(NamedTuple):
    """A prunable tensor with its state and the settings of its parameter group."""

    weight: Tensor
    state: sparse_state.State
    group: dict[str, Any]

    @property
    def held(self) -> int:
        """How many of its weights hold moments."""
        return self.state["exp_avg"].numel() if "mask" in self.state else self.weight.numel()


@dataclass(frozen=True)
class Rule:
    """How weights are ranked: see the arguments of ``AdamWPrune``."""

    criterion: Criterion
    exponent: float
    ranking: str
    min_density: float

    def layer(self, index: int, part: Part, scores: sparse_scores.Scores, candidates: int) -> Layer:
        """What the ranking needs to know of a tensor of which ``candidates`` weights have scores."""
        name = checks.name_of(part.weight, part.group) or f"{index} of shape {tuple(part.weight.shape)}"
        keep = survivors_at_least(part.weight.numel(), self.min_density)
        return Layer(name, tuple(part.weight.shape), candidates, scores, keep)


def start(parts: Sequence[Part], rule: Rule, sparsity: float, dynamic: bool) -> None:
    """Before the first step: moments for as many weights as will survive.

    In lean mode these are the largest. In dynamic mode they are those of largest ``|w g|``, the change of the loss if
    the weight were removed (SNIP, arXiv 1810.02340), wherever they are unless the ranking goes by shape; the others
    are zero from here on. Where a tensor has no gradient yet, layers cannot be compared: ERK and the largest then.
    """
    if not parts:
        return
    for part in parts:
        checks.dense_gradient(part.weight, part.group)
    compared = dynamic and all(part.weight.grad is not None for part in parts)
    first = sparse_scores.sensitivities if compared else sparse_scores.magnitudes
    layers = [rule.layer(i, p, first(p.weight), p.weight.numel()) for i, p in enumerate(parts)]
    selection = Selection(layers)
    without = round(sparsity * sum(layer.size for layer in layers))
    ranking = rule.ranking
    if dynamic and ranking not in BY_SHAPE:
        ranking = "global" if compared else "erk"
    stateless = selection.numbers(without, ranking)
    bits = _cut(parts, selection, stateless)
    for part, new, numbers in zip(parts, bits, _counts(bits, parts, _candidates(layers) - stateless), strict=True):
        sparse_state.start_sparse(part.state, part.weight, new, numbers, bool(part.group["fused"]))
        if dynamic:
            masks.zero_pruned(part.weight.detach(), new)
        else:
            lean.start(part.weight, part.state)


def prune(parts: Sequence[Part], rule: Rule, sparsity: float, exchange: float, step: int) -> Update:
    """Prune up to ``sparsity``, exchange a share of the survivors, and free the moments of what is pruned."""
    size = sum(part.weight.numel() for part in parts)
    survivors = sum(part.held for part in parts)
    remain = min(size - round(sparsity * size), survivors)
    layers = [
        rule.layer(i, p, sparse_scores.scores(*p, rule.criterion, rule.exponent), p.held) for i, p in enumerate(parts)
    ]
    selection = Selection(layers)
    numbers = selection.numbers(survivors - remain, rule.ranking)
    update = Update(step, 1 - remain / size, selection.upper, numbers)
    leaving = _leaving(selection, numbers, parts, rule, exchange)
    cuts = zip(layers, selection.thresholds(numbers + leaving), strict=True)
    bits = [sparse_state.drop(*part[:2], kept(*cut)) for part, cut in zip(parts, cuts, strict=True)]
    returning = _grow(parts, bits, leaving, rule) if leaving.any() else leaving
    counts = _counts(bits, parts, _candidates(layers) - numbers - leaving + returning)
    for part, new, number, grown in zip(parts, bits, counts, returning, strict=True):
        beta2 = part.group["betas"][1]
        sparse_state.rebuild(
            part.weight, part.state, new, number, sparse_state.regrown(*part[:2], beta2) if grown else None
        )
        masks.zero_pruned(part.weight.detach(), new)
    return update


def hand_over(parts: Sequence[Part], rule: Rule, sparsity: float, final: float, step: int, last: bool) -> Update:
    """Lean mode: prune up to ``sparsity``, and give the moments to the most important of all weights.

    After the ``last`` update no weight lives without moments, and what rows hold is freed.
    """
    for part in parts:
        if "mask" not in part.state:
            lean.start_from_dense(part.weight, part.state)
        elif "row_avg_sq" not in part.state:
            lean.start_again(part.weight, part.state)
    layers = [rule.layer(i, p, lean.scores(*p, rule.exponent), p.weight.numel()) for i, p in enumerate(parts)]
    selection = Selection(layers)
    gone = selection.upper.table[:, lower_edges(selection.upper.halves) < 0].sum(1)
    size = sum(layer.size for layer in layers)
    # no less than what is pruned already: it may be more than was asked for, where a layer has been frozen since
    pruned, without = (max(round(share * size), int(gone.sum())) for share in (sparsity, final))
    stateless = _between(gone, selection.numbers(without, rule.ranking), selection.caps, without)
    numbers = _between(gone, selection.numbers(pruned, rule.ranking), stateless, pruned)
    living, bits = _cut(parts, selection, numbers), _cut(parts, selection, stateless)
    counts = _counts(bits, parts, _candidates(layers) - stateless)
    for part, alive, new, number in zip(parts, living, bits, counts, strict=True):
        lean.rebuild(part.weight, part.state, new, number)
        lean.prune(part.weight.detach(), alive, last)
        if last:
            del part.state["row_avg_sq"]
    return Update(step, pruned / size, selection.upper, numbers)


def _between(lowest: np.ndarray, numbers: np.ndarray, highest: np.ndarray, total: int) -> np.ndarray:
    """The numbers nearest to these, budgets by shape, which are rounded, that lie between and sum to the total."""
    more = round_to_total(np.clip(numbers, lowest, highest) - lowest, highest - lowest, total - int(lowest.sum()))
    return np.asarray(lowest + more)


def _cut(parts: Sequence[Part], selection: Selection, numbers: np.ndarray) -> list[Tensor]:
    """Bits of all weights but the ``numbers`` lowest of each tensor, where every weight is a candidate."""
    cuts = zip(selection.layers, selection.thresholds(numbers), strict=True)
    return [sparse_state.drop(part.weight, {}, kept(*cut)) for part, cut in zip(parts, cuts, strict=True)]


def _leaving(selection: Selection, numbers: np.ndarray, parts: Sequence[Part], rule: Rule, share: float) -> np.ndarray:
    """How many survivors of each layer give their place to pruned weights, beyond what the ramp prunes.

    The least important ones wherever they are, or that share of every layer where the ranking goes by shape. Layers
    without a gradient take no part.
    """
    moving = np.array([part.weight.grad is not None for part in parts])
    staying = np.where(moving, _candidates(selection.layers) - numbers, 0)
    room = np.where(moving, np.maximum(selection.caps - numbers, 0), 0)
    absent = _absent(parts)
    if rule.ranking in BY_SHAPE:
        wanted = np.rint(share * staying).astype(np.int64)
        return np.minimum(np.minimum(wanted, absent), room)
    total = min(round(share * int(staying.sum())), int(absent.sum()), int(room.sum()))
    return selection.numbers(int(numbers.sum()) + total, rule.ranking, numbers + room) - numbers


def _grow(parts: Sequence[Part], bits: list[Tensor], leaving: np.ndarray, rule: Rule) -> np.ndarray:
    """Set the bits of as many pruned weights as leave, those with the largest gradients; their number in each layer.

    Only what was pruned before this update can return: to the layer that others leave where the ranking goes by shape,
    else to any.
    """
    absent = _absent(parts)
    chosen = np.flatnonzero(leaving if rule.ranking in BY_SHAPE else absent).tolist()
    layers = []
    for index in chosen:
        part = parts[index]
        layer = rule.layer(index, part, sparse_scores.pruned_gradients(part.weight, part.state), int(absent[index]))
        layers.append(replace(layer, name=f"{layer.name} (gradient)", keep=0))
    selection = Selection(layers)
    staying = absent[chosen] - leaving[chosen]
    if rule.ranking not in BY_SHAPE:
        staying = selection.numbers(int(absent.sum() - leaving.sum()), "global")
    for index, layer, limit in zip(chosen, layers, selection.thresholds(staying), strict=True):
        sparse_state.set_bits(bits[index], *parts[index][:2], kept(layer, limit))
    returning = np.zeros_like(leaving)
    returning[chosen] = absent[chosen] - staying
    return returning


def _absent(parts: Sequence[Part]) -> np.ndarray:
    """How many pruned weights of each layer have a gradient to return by."""
    return np.array([part.weight.numel() - part.held if part.weight.grad is not None else 0 for part in parts])


def _candidates(layers: Sequence[Layer]) -> np.ndarray:
    return np.array([layer.candidates for layer in layers], dtype=np.int64)


def _counts(bits: Sequence[Tensor], parts: Sequence[Part], kept: np.ndarray) -> list[list[int]]:
    """Weights that hold moments per tensor and slice; AssertionError unless they are as many in each tensor."""
    return masks.exact_counts(bits, [part.weight.numel() for part in parts], kept.tolist())
