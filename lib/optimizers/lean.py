"""Weights that train without moments: what AdamWPrune's lean mode does to one weight tensor until its ramp ends.

As many weights as will survive hold moments (see ``compact``; here the mask says which). The others are dense all the
same and take gradient steps: each row of a tensor, the weights of one output, scaled to Adam's step by the root mean
square of its gradient. Nothing is stored for them. Once pruning has begun, a zero among them is a pruned weight.

That a whole row can share one second moment is the finding of Adam-mini (Zhang et al. 2024, arXiv 2406.16793).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..pruning import masks
from ..pruning.criteria import fisher
from . import compact
from .compact import Fresh, Scores, State


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any], pruning: bool) -> None:
    """Step the weights that hold no moments, in place: ``w <- w - lr * weight_decay * w - lr * g / (rms(g) + eps)``.

    Args:
        tensors: prunable weights, each with its state.
        group: the parameter group with its settings.
        pruning: whether pruning has begun, so that zeros stay zeros.
    """
    rate, decay = float(group["lr"]), float(group["lr"]) * group["weight_decay"]
    for weight, state in tensors:
        scales = row_squares(weight).sqrt_().add_(group["eps"]).reciprocal_().mul_(-rate if group["maximize"] else rate)
        vector, slope = masks.flat(weight.detach()), masks.flat(compact.gradient(weight))
        for start, stop in masks.slices(vector.numel()):
            part = vector[start:stop]
            without = masks.unpack(state["mask"], start, stop).logical_not_()
            if pruning:
                without.logical_and_(part != 0)
            change = (slope[start:stop] * _spread(scales, weight, start, stop)).add_(part, alpha=decay)
            part.sub_(change.mul_(without))


def row_squares(weight: Tensor) -> Tensor:
    """Mean squared gradient of each row, which stands in for the second moments that are not held; shape (rows,)."""
    if weight.grad is None:
        return torch.zeros(weight.shape[:1], dtype=weight.dtype, device=weight.device)
    if weight.dim() < 2:
        return weight.grad.square()
    return torch.linalg.vector_norm(weight.grad, dim=tuple(range(1, weight.dim()))).square_() / weight[0].numel()


def scores(weight: Tensor, state: State, group: dict[str, Any], exponent: float) -> Scores:
    """``|w| * v_hat^exponent`` of all weights, slice by slice."""
    correction = _correction(state, group)
    vector, squares = masks.flat(weight.detach()), row_squares(weight).float()

    def everywhere() -> Iterator[Tensor]:
        for start, stop, first, last in compact.bounds(weight, state):
            v = _spread(squares, weight, start, stop)
            where = masks.positions(state["mask"], start, stop, last - first)
            v.index_copy_(0, where, state["exp_avg_sq"][first:last].float() / correction)
            yield fisher(vector[start:stop].float(), v, v, exponent)

    return everywhere


def joining(weight: Tensor, state: State, group: dict[str, Any]) -> Fresh:
    """Weights that are given moments start with the ``v_hat`` of their row."""
    second_moments = row_squares(weight) * _correction(state, group)
    return lambda start, stop: _spread(second_moments, weight, start, stop)


def _spread(rows: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
    """Each weight's entry of ``rows``, from place ``start`` to ``stop``; rows lie one after the other in memory."""
    length = weight.numel() // rows.numel()
    first, last = start // length, -(-stop // length)
    return rows[first:last].repeat_interleave(length)[start - first * length : stop - first * length]


def _correction(state: State, group: dict[str, Any]) -> Tensor:
    """``1 - beta2^t``; not zero for a tensor that has not had a gradient yet."""
    correction: Tensor = (1 - group["betas"][1] ** state["step"]).clamp(min=1e-30)
    return correction
