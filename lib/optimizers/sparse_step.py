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
from .sparse_state import State, bounds, gradient


def adamw_step(
    group: dict[str, Any],
    weights: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
) -> None:
    """Take torch's own AdamW step with the settings of a parameter group, in place."""
    adamw(
        weights,
        grads,
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
    """Take AdamW's step for the survivors of pruned tensors, each given with its state, in place.

    With ``fused`` compiled code takes the whole step, where it can be built: C on the CPU, Triton on a GPU.
    """
    compiled: list[cpu.Slice] = []
    on_gpus: dict[torch.device, list[tuple[Tensor, Tensor, State]]] = {}
    grads = []  # kept alive until the step is done
    for weight, state in tensors:
        flat_weight, flat_grad = masks.flat(weight.detach()), masks.flat(gradient(weight))
        operands = (flat_weight, flat_grad, state["exp_avg"], state["exp_avg_sq"])
        if group["fused"] and all(map(cpu.supports, operands)):
            state["step"] += 1
            grads.append(flat_grad)
            compiled += compiled_slices(flat_weight, flat_grad, weight, state, group)
        elif group["fused"] and triton_supports(*operands, state["step"]):
            on_gpus.setdefault(weight.device, []).append((flat_weight, flat_grad, state))
        else:
            torch_step(flat_weight, flat_grad, weight, state, group)
    if compiled:
        cpu.step(compiled)
    for on_gpu in on_gpus.values():
        triton_step().step(on_gpu, group)


def triton_supports(*tensors: Tensor) -> bool:
    """Return whether the kernels of ``triton_step`` take these tensors."""
    return tensors[0].is_cuda and triton_step() is not None and triton_step().supports(*tensors)


@cache
def triton_step() -> Any:
    """Return ``lib.kernels.triton_step``, imported when a GPU first needs it; None where Triton is missing."""
    try:
        from ..kernels import triton_step as kernels
    except ImportError:
        return None
    return kernels


def compiled_slices(
    flat_weight: Tensor, flat_grad: Tensor, weight: Tensor, state: State, group: dict[str, Any]
) -> Iterator[cpu.Slice]:
    """Yield the addresses of each slice's weights, gradients, moments and bits."""
    settings = cpu.settings(int(state["step"].item()), group)
    w, g, m, v = (t.data_ptr() for t in (flat_weight, flat_grad, state["exp_avg"], state["exp_avg_sq"]))
    bits, item = state["mask"].data_ptr(), flat_weight.element_size()
    for start, stop, first, _ in bounds(weight, state):
        in_weight, in_moments = item * start, item * first
        addresses = (w + in_weight, g + in_weight, m + in_moments, v + in_moments, bits + start // 8)
        yield cpu.Slice(*addresses, stop - start, settings)


def torch_step(flat_weight: Tensor, flat_grad: Tensor, weight: Tensor, state: State, group: dict[str, Any]) -> None:
    """Take the step of one tensor by torch's operations: gather weights and gradients, update, scatter the weights."""
    for start, stop, first, last in bounds(weight, state):
        indices = masks.positions(state["mask"], start, stop, last - first)
        values = flat_weight[start:stop].index_select(0, indices)
        adamw_step(
            group,
            [values],
            [flat_grad[start:stop].index_select(0, indices)],
            [state["exp_avg"][first:last]],
            [state["exp_avg_sq"][first:last]],
            [state["step"].clone()],  # AdamW counts the step of every list it is given
        )
        flat_weight[start:stop].index_copy_(0, indices, values)
    state["step"] += 1
