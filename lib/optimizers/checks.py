"""What AdamWPrune does not take: arguments and tensors, each refused in one sentence before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..pruning import masks


def adam(lr: float | Tensor, betas: Sequence[float], eps: float, weight_decay: float) -> None:
    """The arguments that AdamW has too. ValueError names the one that is wrong, and its range."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"a lr that is a Tensor must have 1 element, got {lr.numel()}")
    within("lr", float(lr), 0.0, float("inf"))
    within("eps", eps, 0.0, float("inf"))
    within("weight_decay", weight_decay, 0.0, float("inf"))
    for index, beta in enumerate(betas):
        if isinstance(beta, Tensor):
            raise ValueError(f"betas[{index}] must be a number, got a Tensor")
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"betas[{index}] must be in [0, 1), got {beta}")


def ways(foreach: bool | None, fused: bool | None, lr: float | Tensor) -> None:
    """How the step is to be taken. Errors are those of torch's AdamW."""
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if foreach and isinstance(lr, Tensor):
        raise ValueError("lr as a Tensor is not supported for foreach=True")


def within(name: str, value: float, low: float, high: float) -> None:
    """ValueError unless ``low <= value <= high`` and it is finite."""
    if not low <= value <= high or value == float("inf"):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")


def member(name: str, value: str, allowed: Sequence[str]) -> None:
    """ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def floating(group: dict[str, Any]) -> None:
    """With ``fused`` all tensors of a group must be of real numbers, as for torch's AdamW. RuntimeError names one."""
    for weight in group["params"] if group["fused"] else ():
        if weight.requires_grad and not weight.is_floating_point():
            raise RuntimeError(f"fused=True needs floating point tensors, but {label(weight, group)} is {weight.dtype}")


def prunable(weight: Tensor, group: dict[str, Any]) -> None:
    """ValueError, naming the tensor, if it cannot be pruned."""
    if not weight.is_floating_point():
        why = f"is {weight.dtype}, and only floating point weights are ranked"
    elif weight.dim() == 0:
        why = "has no dimensions, and a single number is not pruned"
    elif not masks.is_dense(weight):
        why = f"has strides {weight.stride()}, and only contiguous or channels_last weights are pruned"
    else:
        return
    raise ValueError(f"{label(weight, group)} {why}; put it into a parameter group with prunable=False")


def dense_gradient(weight: Tensor, group: dict[str, Any]) -> None:
    """RuntimeError, naming the tensor, if its gradient is sparse, as torch's AdamW has it."""
    if weight.grad is not None and weight.grad.layout != torch.strided:
        raise RuntimeError(f"AdamWPrune does not support sparse gradients, but that of {label(weight, group)} is one")


def label(weight: Tensor, group: dict[str, Any]) -> str:
    """What messages call a tensor: by its name, if it was given with one, else by its shape."""
    name = name_of(weight, group)
    return f"tensor {name}" if name else f"a tensor of shape {tuple(weight.shape)}"


def name_of(weight: Tensor, group: dict[str, Any]) -> str | None:
    """A tensor's name, if the optimizer was given named parameters."""
    names = group.get("param_names", [None] * len(group["params"]))
    return next(name for name, other in zip(names, group["params"], strict=True) if other is weight)
