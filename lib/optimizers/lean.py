"""Weights that train without moments: what AdamWPrune's lean mode does to one weight tensor until its ramp ends.

As many weights as will survive hold moments (see ``compact``; here the mask says which). The others are dense all the
same. Each takes gradient steps scaled by one second moment for its whole row, the weights of one output, which is all
that is stored for them. Once pruning has begun, a zero among them is a pruned weight.

That a row can share one second moment is the finding of Adam-mini (Zhang et al. 2024, arXiv 2406.16793).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import native
from ..pruning import masks
from ..pruning.criteria import fisher
from . import compact
from .compact import Scores, State


def start(weight: Tensor, state: State) -> None:
    """The rows' second moments before the first step."""
    state["row_avg_sq"] = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any], pruning: bool) -> None:
    """Step the weights that hold no moments, in place, after the others have been stepped::

        u <- beta2 u + (1 - beta2) mean(g^2)     over a row
        w <- w - lr * weight_decay * w - lr * g / (sqrt(u / (1 - beta2^t)) + eps)

    Args:
        tensors: prunable weights, each with its state.
        group: the parameter group with its settings.
        pruning: whether pruning has begun, so that zeros stay zeros.
    """
    rate, decay = float(group["lr"]), float(group["lr"]) * group["weight_decay"]
    sign, beta2 = -1.0 if group["maximize"] else 1.0, group["betas"][1]
    compiled: list[native.Rest] = []
    held = []  # kept alive until the step is done
    for weight, state in tensors:
        vector, slope = masks.flat(weight.detach()), masks.flat(compact.gradient(weight))
        rows = slope.view(weight.shape[0], -1)
        squares = torch.linalg.vector_norm(rows, dim=1).square_()
        state["row_avg_sq"].mul_(beta2).add_(squares, alpha=(1 - beta2) / rows.shape[1])
        scales = sign * rate / (_second_moments(state, group).sqrt_() + group["eps"])
        if group["fused"] and all(map(native.here, (vector, slope, scales))):
            held += [slope, scales]
            compiled += _compiled_slices(vector, slope, scales, state["mask"], decay, pruning)
        else:
            _step(vector, slope, scales, state["mask"], decay, pruning)
    if compiled:
        native.scaled_step(compiled)


def _compiled_slices(
    vector: Tensor, slope: Tensor, scales: Tensor, bits: Tensor, decay: float, pruning: bool
) -> Iterator[native.Rest]:
    w, g, mask, rows = (tensor.data_ptr() for tensor in (vector, slope, bits, scales))
    length = vector.numel() // scales.numel()
    for start, stop in masks.slices(vector.numel()):
        addresses = (w + 4 * start, g + 4 * start, mask + start // 8, rows)
        yield native.Rest(*addresses, length, start, stop - start, decay, pruning)


def _step(vector: Tensor, slope: Tensor, scales: Tensor, bits: Tensor, decay: float, pruning: bool) -> None:
    for start, stop in masks.slices(vector.numel()):
        part = vector[start:stop]
        without = masks.unpack(bits, start, stop).logical_not_()
        if pruning:
            without.logical_and_(part != 0)
        change = (slope[start:stop] * _spread(scales, vector, start, stop)).add_(part, alpha=decay)
        part.sub_(change.mul_(without))


def scores(weight: Tensor, state: State, group: dict[str, Any], exponent: float) -> Scores:
    """``|w| * v_hat^exponent`` of all weights, slice by slice; the row's v_hat where a weight has none."""
    correction = _correction(state, group)
    vector, rows = masks.flat(weight.detach()), _second_moments(state, group).float()

    def compiled() -> Iterator[Tensor]:
        powers, length, number = rows.pow(exponent), vector.numel() // rows.numel(), float(correction)
        for start, stop, first, last in compact.bounds(weight, state):
            v, bits = state["exp_avg_sq"][first:last], state["mask"][start // 8 :]
            here = native.Rows(powers, length, start)
            yield native.fisher_lean(vector[start:stop], v, bits, here, number, compact.ROOTS[exponent])

    def everywhere() -> Iterator[Tensor]:
        for start, stop, first, last in compact.bounds(weight, state):
            v = _spread(rows, weight, start, stop)
            where = masks.positions(state["mask"], start, stop, last - first)
            v.index_copy_(0, where, state["exp_avg_sq"][first:last].float() / correction)
            yield fisher(vector[start:stop].float(), v, v, exponent)

    fast = group["fused"] and exponent in compact.ROOTS and native.here(weight) and native.here(state["exp_avg_sq"])
    return compiled if fast else everywhere


def rebuild(weight: Tensor, state: State, bits: Tensor, kept: list[int]) -> None:
    """Carry the moments over to a new mask; a weight that is given moments starts with the second moment of its row."""
    rows = state["row_avg_sq"]
    if not all(map(native.here, (weight, rows, state["exp_avg"], state["exp_avg_sq"]))):
        compact.rebuild(weight, state, bits, kept, lambda start, stop: _spread(rows, weight, start, stop))
        return
    length = weight.numel() // rows.numel()
    for name in ("exp_avg", "exp_avg_sq"):  # one after the other: only one of them exists twice at a time
        old, new, begin = state[name], torch.empty(sum(kept), dtype=rows.dtype), 0
        for (start, stop, first, last), number in zip(compact.bounds(weight, state), kept, strict=True):
            before, after = (mask[start // 8 :] for mask in (state["mask"], bits))
            fresh = native.Rows(rows, length, start) if name == "exp_avg_sq" else None
            native.join(before, after, old[first:last], fresh, stop - start, new[begin : begin + number])
            begin += number
        state[name] = new
    compact.set_mask(state, weight, bits, kept)


def _second_moments(state: State, group: dict[str, Any]) -> Tensor:
    """``v_hat`` of each row."""
    moments: Tensor = state["row_avg_sq"] / _correction(state, group)
    return moments


def _spread(rows: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
    """Each weight's entry of ``rows``, from place ``start`` to ``stop``; rows lie one after the other in memory."""
    length = weight.numel() // rows.numel()
    first, last = start // length, -(-stop // length)
    return rows[first:last].repeat_interleave(length)[start - first * length : stop - first * length]


def _correction(state: State, group: dict[str, Any]) -> Tensor:
    """``1 - beta2^t``; not zero for a tensor that has not had a gradient yet."""
    correction: Tensor = (1 - group["betas"][1] ** state["step"]).clamp(min=1e-30)
    return correction
