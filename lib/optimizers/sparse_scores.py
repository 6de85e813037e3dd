"""Score weights slice by slice for AdamWPrune's mask updates.

Each function returns a function that yields the scores of one slice after the other, anew at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ..kernels import cpu
from ..pruning import masks
from ..pruning.criteria import Criterion, fisher
from .sparse_state import State, bounds, flat_moment, gradient, pruned_indices, slice_bits

Scores = Callable[[], Iterator[Tensor]]

ROOTS = {0.5: 1, 0.25: 2}  # exponents that compiled code can take, as square roots one after the other


def importance(weight: Tensor, state: State, group: dict[str, Any], criterion: Criterion, exponent: float) -> Scores:
    """Return the importance of the survivors, from weight and bias-corrected moments."""
    correction1, correction2 = (bias_correction(beta, state) for beta in group["betas"])
    flat_weight = masks.flat(weight.detach())
    roots = ROOTS.get(exponent) if criterion is fisher else None

    def compiled() -> Iterator[Tensor]:
        assert roots is not None
        exp_avg_sq, correction = flat_moment(state["exp_avg_sq"]), float(correction2)
        for start, stop, first, last in bounds(weight, state):
            bits = slice_bits(state.get("mask"), start, stop)
            yield cpu.fisher(flat_weight[start:stop], exp_avg_sq[first:last], bits, correction, roots)

    def by_torch() -> Iterator[Tensor]:
        exp_avg, exp_avg_sq = (flat_moment(state[name]) for name in ("exp_avg", "exp_avg_sq"))
        for start, stop, first, last in bounds(weight, state):
            values = flat_weight[start:stop]
            if "mask" in state:
                values = values.index_select(0, masks.positions(state["mask"], start, stop, last - first))
            m = exp_avg[first:last].float() / correction1
            v = exp_avg_sq[first:last].float() / correction2
            yield criterion(values.float(), m, v, exponent)

    supported = group["fused"] and cpu.supports(weight) and cpu.supports(state["exp_avg_sq"])
    return compiled if roots and supported else by_torch


def bias_correction(beta: float, state: State) -> Tensor:
    """Return ``1 - beta^t``; not zero for a tensor that has moments but has not had a gradient yet."""
    correction: Tensor = (1 - beta ** state["step"]).clamp(min=1e-30)
    return correction


def magnitudes(weight: Tensor) -> Scores:
    """Return ``|w|`` of all weights."""
    flat_weight = masks.flat(weight.detach())
    return lambda: (flat_weight[start:stop].abs() for start, stop in masks.slices(weight.numel()))


def sensitivities(weight: Tensor) -> Scores:
    """Return ``|w g|`` of all weights, in float32: a product in 16 bits is often 0."""
    w, g = masks.flat(weight.detach()), masks.flat(gradient(weight))
    return lambda: ((w[a:b].float() * g[a:b].float()).abs_() for a, b in masks.slices(weight.numel()))


def pruned_gradients(weight: Tensor, state: State) -> Scores:
    """Return ``|g|`` of the pruned weights."""
    flat_grad = masks.flat(gradient(weight))

    def by_torch() -> Iterator[Tensor]:
        for start, stop, first, last in bounds(weight, state):
            indices = pruned_indices(state, start, stop, last - first)
            yield flat_grad[start:stop].index_select(0, indices).abs_()

    return by_torch
