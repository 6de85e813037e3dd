"""Take AdamW's step for the surviving weights of pruned tensors, whose states ``sparse_state`` describes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..kernels import cpu
from ..pruning import masks
from . import sparse_state
from .sparse_state import State


def adamw_step(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
) -> None:
    """torch's own AdamW update with the settings of a parameter group, in place."""
    adamw(
        weights,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        has_complex=any(map(torch.is_complex, weights)),
        foreach=group["foreach"],
        fused=group["fused"],
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any]) -> None:
    """AdamW's update of the survivors of pruned tensors, each given with its state, in place.

    With ``fused`` compiled code does this in one go, where it can be built: C on the CPU, Triton on a GPU.
    """
    compiled: list[cpu.Slice] = []
    on_gpus: dict[torch.device, list[tuple[Tensor, Tensor, State]]] = {}
    gradients = []  # kept alive until the step is done
    for weight, state in tensors:
        vector, slope = masks.flat(weight.detach()), masks.flat(sparse_state.gradient(weight))
        held = (vector, slope, state["exp_avg"], state["exp_avg_sq"])
        if group["fused"] and all(map(cpu.supports, held)):
            state["step"] += 1
            gradients.append(slope)
            compiled += compiled_slices(vector, slope, weight, state, group)
        elif group["fused"] and on_gpu(*held, state["step"]):
            on_gpus.setdefault(weight.device, []).append((vector, slope, state))
        else:
            _step(vector, slope, weight, state, group)
    if compiled:
        cpu.step(compiled)
    for parts in on_gpus.values():
        triton_step().step(parts, group)


def on_gpu(*tensors: Tensor) -> bool:
    """Whether the kernels of ``triton_step`` take these."""
    return tensors[0].is_cuda and triton_step() is not None and triton_step().supports(*tensors)


@cache
def triton_step() -> Any:
    """``lib.kernels.triton_step``, imported when a GPU first needs it; None where Triton is missing."""
    try:
        from ..kernels import triton_step as kernels
    except ImportError:
        return None
    return kernels


def compiled_slices(
    vector: Tensor, slope: Tensor, weight: Tensor, state: State, group: dict[str, Any]
) -> Iterator[cpu.Slice]:
    """Addresses of each slice's weights, gradients, moments and bits."""
    settings = cpu.settings(int(state["step"].item()), group)
    w, g, m, v = (t.data_ptr() for t in (vector, slope, state["exp_avg"], state["exp_avg_sq"]))
    bits, item = state["mask"].data_ptr(), vector.element_size()
    for start, stop, first, _ in sparse_state.bounds(weight, state):
        before, survivors = item * start, item * first
        addresses = (w + before, g + before, m + survivors, v + survivors, bits + start // 8)
        yield cpu.Slice(*addresses, stop - start, settings)


def _step(vector: Tensor, slope: Tensor, weight: Tensor, state: State, group: dict[str, Any]) -> None:
    """The same with torch's operations: gather weights and gradients, update, scatter the weights back."""
    for start, stop, first, last in sparse_state.bounds(weight, state):
        where = masks.positions(state["mask"], start, stop, last - first)
        values = vector[start:stop].index_select(0, where)
        adamw_step(
            group,
            [values],
            [slope[start:stop].index_select(0, where)],
            [state["exp_avg"][first:last]],
            [state["exp_avg_sq"][first:last]],
            [state["step"].clone()],  # AdamW counts the step of every list it is given
        )
        vector[start:stop].index_copy_(0, where, values)
    state["step"] += 1
