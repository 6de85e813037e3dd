"""Refuse what AdamWPrune does not take: arguments and tensors, each in one sentence before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..pruning import masks
from ..pruning.criteria import CRITERIA
from ..pruning.selection import RANKINGS

MODES = ("gradual", "lean", "dynamic")


def check_adam_args(lr: float | Tensor, betas: Sequence[float], eps: float, weight_decay: float) -> None:
    """Raise ValueError for an argument that AdamW has too, naming it and its range."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"a lr that is a Tensor must have 1 element, got {lr.numel()}")
    check_range("lr", float(lr), 0.0, float("inf"))
    check_range("eps", eps, 0.0, float("inf"))
    check_range("weight_decay", weight_decay, 0.0, float("inf"))
    for index, beta in enumerate(betas):
        if isinstance(beta, Tensor):
            raise ValueError(f"betas[{index}] must be a number, got a Tensor")
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"betas[{index}] must be in [0, 1), got {beta}")


def check_implementation(foreach: bool | None, fused: bool | None, lr: float | Tensor) -> None:
    """Raise the errors of torch's AdamW for implementations that cannot be combined."""
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if foreach and isinstance(lr, Tensor):
        raise ValueError("lr as a Tensor is not supported for foreach=True")


def check_pruning_args(
    criterion: str, exponent: float, ranking: str, min_density: float, mode: str, regrowth: float
) -> None:
    """Raise ValueError for an argument that says how to prune, naming it and its range."""
    check_choice("criterion", criterion, tuple(CRITERIA))
    check_choice("ranking", ranking, RANKINGS)
    check_choice("mode", mode, MODES)
    check_range("exponent", exponent, 0.0, 1.0)
    check_range("regrowth", regrowth, 0.0, 0.5)
    check_range("min_density", min_density, 0.0, 1.0)
    if mode == "lean" and criterion != "fisher":
        raise ValueError(f"criterion must be fisher in lean mode, got {criterion!r}")
    if mode == "lean" and regrowth:
        raise ValueError(f"regrowth must be 0 in lean mode, got {regrowth}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless the value is a number, ``low <= value <= high``, and finite."""
    if not isinstance(value, Real) or not low <= value <= high or value == float("inf"):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}{')' if high == float('inf') else ']'}, got {value!r}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_floating(group: dict[str, Any]) -> None:
    """Raise RuntimeError, naming a tensor that is not of real numbers, for a group with ``fused``, as torch's AdamW."""
    for weight in group["params"] if group["fused"] else ():
        if weight.requires_grad and not weight.is_floating_point():
            raise RuntimeError(f"fused=True needs floating point tensors, but {label(weight, group)} is {weight.dtype}")


def check_group(group: dict[str, Any]) -> None:
    """Raise ValueError or RuntimeError for a setting of a parameter group that cannot be used, naming it."""
    check_adam_args(group["lr"], group["betas"], group["eps"], group["weight_decay"])
    check_implementation(group["foreach"], group["fused"], group["lr"])
    check_floating(group)
    if group["prunable"] not in (None, True, False):
        raise ValueError(f"prunable must be True, False or None, got {group['prunable']!r}")
    for key in group:
        if key.startswith("prun") and key != "prunable":
            raise ValueError(f"a parameter group has the key {key!r}; did you mean 'prunable'?")


def check_prunable(weight: Tensor, group: dict[str, Any]) -> None:
    """Raise ValueError, naming the tensor, if it cannot be pruned."""
    if is_traceable_wrapper_subclass(weight):
        reason = (
            f"is a {type(weight).__name__}, and only plain tensors are pruned: train with DistributedDataParallel "
            "instead of FSDP, or"
        )
        raise ValueError(f"{label(weight, group)} {reason} put it into a parameter group with prunable=False")
    if not weight.is_floating_point():
        reason = f"is {weight.dtype}, and only floating point weights are ranked"
    elif weight.dim() == 0:
        reason = "has no dimensions, and a single number is not pruned"
    elif not masks.is_dense(weight):
        reason = f"has strides {weight.stride()}, and only contiguous or channels_last weights are pruned"
    else:
        return
    raise ValueError(f"{label(weight, group)} {reason}; put it into a parameter group with prunable=False")


def check_dense_gradient(weight: Tensor, group: dict[str, Any]) -> None:
    """Raise RuntimeError, naming the tensor, if its gradient is sparse, as torch's AdamW does."""
    if weight.grad is not None and weight.grad.layout != torch.strided:
        raise RuntimeError(f"AdamWPrune does not support sparse gradients, but that of {label(weight, group)} is one")


def check_not_capturing() -> None:
    """Raise RuntimeError within the capture of a CUDA graph: a replayed step would not follow the schedule."""
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("AdamWPrune.step() cannot be captured in a CUDA graph; call it outside of the graph")


def label(weight: Tensor, group: dict[str, Any]) -> str:
    """Return what messages call a tensor: its name, if it was given with one, else its shape."""
    name = name_of(weight, group)
    return f"tensor {name}" if name else f"a tensor of shape {tuple(weight.shape)}"


def name_of(weight: Tensor, group: dict[str, Any]) -> str | None:
    """Return a tensor's name, if the optimizer was given named parameters."""
    names = group.get("param_names", [None] * len(group["params"]))
    return next(name for name, param in zip(names, group["params"], strict=True) if param is weight)
