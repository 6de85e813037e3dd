"""Score weights slice by slice, for AdamWPrune's mask updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ..kernels import cpu
from ..pruning import masks
from ..pruning.criteria import Criterion, fisher
from . import sparse_state
from .sparse_state import State

Scores = Callable[[], Iterator[Tensor]]

ROOTS = {0.5: 1, 0.25: 2}  # exponents that compiled code can take, as square roots one after the other


def scores(weight: Tensor, state: State, group: dict[str, Any], criterion: Criterion, exponent: float) -> Scores:
    """Importance of the survivors, slice by slice, from weight and bias-corrected moments."""
    correction1, correction2 = (correction(beta, state) for beta in group["betas"])
    vector = masks.flat(weight.detach())
    roots = ROOTS.get(exponent) if criterion is fisher else None

    def compiled() -> Iterator[Tensor]:
        assert roots is not None
        second_moment, number = sparse_state.flat_moment(state["exp_avg_sq"]), float(correction2)
        for start, stop, first, last in sparse_state.bounds(weight, state):
            bits = sparse_state.slice_bits(state.get("mask"), start, stop)
            yield cpu.fisher(vector[start:stop], second_moment[first:last], bits, number, roots)

    def survivors() -> Iterator[Tensor]:
        first_moment, second_moment = (
            sparse_state.flat_moment(state["exp_avg"]),
            sparse_state.flat_moment(state["exp_avg_sq"]),
        )
        for start, stop, first, last in sparse_state.bounds(weight, state):
            values = vector[start:stop]
            if "mask" in state:
                values = values.index_select(0, masks.positions(state["mask"], start, stop, last - first))
            m = first_moment[first:last].float() / correction1
            v = second_moment[first:last].float() / correction2
            yield criterion(values.float(), m, v, exponent)

    fast = group["fused"] and cpu.supports(weight) and cpu.supports(state["exp_avg_sq"])
    return compiled if roots and fast else survivors


def correction(beta: float, state: State) -> Tensor:
    """``1 - beta^t``; not zero for a tensor that has moments but has not had a gradient yet."""
    result: Tensor = (1 - beta ** state["step"]).clamp(min=1e-30)
    return result


def magnitudes(weight: Tensor) -> Scores:
    """``|w|`` of all weights, slice by slice."""
    vector = masks.flat(weight.detach())
    return lambda: (vector[start:stop].abs() for start, stop in masks.slices(vector.numel()))


def sensitivities(weight: Tensor) -> Scores:
    """``|w g|`` of all weights, slice by slice, in float32: a product in 16 bits is often 0."""
    vector, slope = masks.flat(weight.detach()), masks.flat(sparse_state.gradient(weight))
    return lambda: ((vector[a:b].float() * slope[a:b].float()).abs_() for a, b in masks.slices(vector.numel()))


def pruned_gradients(weight: Tensor, state: State) -> Scores:
    """``|g|`` of the pruned weights, slice by slice."""
    slope = masks.flat(sparse_state.gradient(weight))

    def absent() -> Iterator[Tensor]:
        for start, stop, first, last in sparse_state.bounds(weight, state):
            yield (
                slope[start:stop].index_select(0, sparse_state.pruned_indices(state, start, stop, last - first)).abs_()
            )

    return absent
