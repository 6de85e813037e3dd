"""Keep AdamWPrune's state in the memory order of its weight: row-major or channels_last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..pruning import masks

State = dict[str, Any]
MOMENTS = ("exp_avg", "exp_avg_sq")


def is_channels_last(weight: Tensor) -> bool:
    """Return whether a dense weight lies in memory as channels_last."""
    return not weight.is_contiguous()


def match(weight: Tensor, state: State) -> None:
    """Reorder a state, in place, that was made for another memory order than the weight has now."""
    if "mask" not in state:
        for name in MOMENTS:
            if state[name].stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(state[name])
    elif state["channels_last"] != is_channels_last(weight):
        size = weight.numel()
        keep = masks.unpack(state["mask"], 0, size)
        order = _other_order(torch.arange(size, device=weight.device), weight)
        for name in MOMENTS:
            dense = torch.zeros(size, dtype=state[name].dtype, device=weight.device)
            dense[keep] = state[name]
            state[name] = dense[order][keep[order]]
        state["mask"] = masks.pack(keep[order])
        state["kept"] = masks.counts(state["mask"], size).tolist()
        state["channels_last"] = is_channels_last(weight)


def _other_order(index: Tensor, weight: Tensor) -> Tensor:
    """Return the positions, in the memory order that ``weight`` does not have, of its elements in the order it has."""
    out, inner, height, width = weight.shape
    if is_channels_last(weight):
        return index.view(out, inner, height, width).permute(0, 2, 3, 1).reshape(-1)
    return index.view(out, height, width, inner).permute(0, 3, 1, 2).reshape(-1)
