"""Take AdamW's step for one parameter group: for all dense parameters at once, for compact ones slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import checks, lean, memory_format, sparse_state, sparse_step
from .sparse_state import State


def init_dense(weight: Tensor, state: State, fused: bool) -> None:
    """Fill the state of a tensor all of whose weights hold moments, before its first step."""
    device = weight.device if fused else torch.device("cpu")  # as torch's AdamW has it
    state["step"] = torch.zeros((), dtype=torch.float32, device=device)
    state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
    state["exp_avg_sq"] = torch.zeros_like(weight, memory_format=torch.preserve_format)


def step(group: dict[str, Any], state_of: Callable[[Tensor, dict[str, Any]], State], steps: int) -> None:
    """Step the tensors of a parameter group that have a gradient, in place.

    Args:
        group: the parameter group.
        state_of: returns the state of a tensor of the group, made if it has none yet.
        steps: optimizer steps taken before this one.
    """
    dense: list[tuple[Tensor, ...]] = []
    pruned: list[tuple[Tensor, State]] = []
    for weight in group["params"]:
        grad = weight.grad
        if grad is None:
            continue
        checks.check_dense_gradient(weight, group)
        state = state_of(weight, group)
        if weight.dim() == 4:
            memory_format.match(weight, state)
        if "mask" in state:
            pruned.append((weight, state))
            continue
        if group["fused"] and grad.stride() != weight.stride():
            grad = sparse_state.gradient(weight)  # torch's kernel goes through memory without a look at strides
        dense.append((weight, grad, state["exp_avg"], state["exp_avg_sq"], state["step"]))
    if dense:
        sparse_step.adamw_step(group, *(list(column) for column in zip(*dense, strict=True)))
    if without_rows := [(weight, state) for weight, state in pruned if "row_avg_sq" not in state]:
        sparse_step.step(without_rows, group)
    if with_rows := [(weight, state) for weight, state in pruned if "row_avg_sq" in state]:
        lean.step(with_rows, group, steps + 1)
