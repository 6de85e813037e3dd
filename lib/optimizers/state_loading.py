"""Check and adapt a state that AdamWPrune has loaded, so that training can continue with it.

Compiled code trusts a mask and the lengths of the moments, so that both are checked here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..pruning import masks
from . import checks, lean, memory_format

State = dict[str, Any]


def restore(weight: Tensor, state: State, group: dict[str, Any], source: State) -> None:
    """Adapt a loaded state to its tensor, in place.

    Args:
        weight, state, group: the tensor, its state as the base class has loaded it, and its parameter group.
        source: the state that was loaded. The base class has cast all of it to the type of the weight.

    Raises:
        ValueError: naming the tensor, if this cannot be its state.
    """
    problem = _problem(weight, state)
    if problem is not None:
        shape = tuple(weight.shape)
        raise ValueError(
            f"the state of {checks.label(weight, group)} does not fit a weight of shape {shape}: {problem}"
        )
    if "mask" in state:
        state["mask"] = state["mask"].to(torch.uint8)
        state["kept"] = masks.counts(state["mask"], weight.numel()).tolist()
        for name in memory_format.MOMENTS:
            state[name] = state[name].contiguous()
    if "row_avg_sq" in state:  # sums of squares, which need the range that they were saved with
        state["row_avg_sq"] = source["row_avg_sq"].to(weight.device, copy=True)
    memory_format.match(weight, state)


def _problem(weight: Tensor, state: State) -> str | None:
    if not isinstance(state.get("step"), Tensor) or state["step"].numel() != 1:
        return "it has no step count"
    if "mask" not in state:
        return _moments_problem(state, tuple(weight.shape))
    if problem := _mask_problem(weight, state):
        return problem
    return _moments_problem(state, (masks.count(state["mask"].to(torch.uint8), weight.numel()),))


def _mask_problem(weight: Tensor, state: State) -> str | None:
    size, mask = weight.numel(), state["mask"]
    bits = mask.to(torch.uint8)
    if mask.shape != (masks.packed_size(size),):
        return f"its mask has {mask.numel()} bytes, not {masks.packed_size(size)}"
    if not torch.equal(bits.to(mask.dtype), mask):
        return "its mask is not made of bytes"
    if size % 8 and int(bits[-1]) >> size % 8:
        return "its mask has bits set past the last weight"
    if not isinstance(state.get("channels_last"), bool) or (state["channels_last"] and weight.dim() != 4):
        return "it does not tell the memory order"
    rows = state.get("row_avg_sq")
    if rows is not None and rows.shape != (lean.num_rows(weight),):
        return f"it has {rows.numel()} rows, not {lean.num_rows(weight)}"
    return None


def _moments_problem(state: State, shape: tuple[int, ...]) -> str | None:
    for name in memory_format.MOMENTS:
        actual = tuple(state[name].shape) if name in state else None
        if actual != shape:
            return f"it should hold {name} of shape {shape}, not {actual}"
    return None
