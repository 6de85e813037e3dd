"""Check and adapt a state that AdamWPrune has loaded, so that training can continue with it.

Compiled code trusts a mask and the lengths of the moments, so that both are checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..pruning import masks
from . import checks, lean, memory_format

State = dict[str, Any]

# what DistributedDataParallel, torch.compile and activation checkpointing put into the names of parameters
WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module")


def only_makes_states(optimizer: Optimizer) -> bool:
    """Return whether this step is how torch.distributed.checkpoint makes states: lr 0, gradients 0, no state yet.

    It must neither count nor prune: in dynamic mode it would zero most weights of a loaded model.
    """
    if optimizer.state or any(float(group["lr"]) for group in optimizer.param_groups):
        return False
    grads = [weight.grad for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    return bool(grads) and not any(bool(grad.any()) for grad in grads)


def drop_derived(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state_dict without what is derived from the masks; tools that flatten it cannot store lists."""
    states = {
        index: {name: value for name, value in state.items() if name != "kept"}
        for index, state in state_dict["state"].items()
    }
    return state_dict | {"state": states}


class Loading:
    """Check a state_dict before AdamWPrune loads it and adapt the states after; a hook for each.

    Args:
        mode (str): the optimizer's mode.
        prunes (bool): whether it prunes at all, so that the mode matters.
    """

    def __init__(self, mode: str, prunes: bool) -> None:
        self.mode, self.prunes = mode, prunes
        self.loaded: dict[str, Any] = {}

    def check(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the state_dict with the position in the groups, where older versions did not have it.

        Raises:
            ValueError: it is not of AdamWPrune, of another mode, or has its tensors in another order.
        """
        position = {key: state_dict[key] for key in ("steps", "mode") if key in state_dict}
        groups = [{"mode": self.mode} | position | group for group in state_dict["param_groups"]]
        for group in groups:
            if "steps" not in group:
                raise ValueError("not a state_dict of AdamWPrune: it has no 'steps'")
            if self.prunes and group["mode"] != self.mode:
                raise ValueError(f"a state_dict of mode {group['mode']} does not go on in mode {self.mode}")
            group["mode"] = self.mode
        for group, saved in zip(optimizer.param_groups, groups, strict=False):  # the base class compares numbers
            _check_names(group.get("param_names", ()), saved.get("param_names", ()))
        self.loaded = {"state": state_dict["state"], "param_groups": groups}
        return self.loaded

    def adapt(self, optimizer: Optimizer) -> None:
        """Adapt the states that the base class has loaded to their tensors.

        Raises:
            ValueError: a state does not fit its tensor.
        """
        for group, saved in zip(optimizer.param_groups, self.loaded["param_groups"], strict=True):
            for weight, index in zip(group["params"], saved["params"], strict=True):
                if state := optimizer.state.get(weight):  # a tensor that has not been stepped yet has none
                    restore(weight, state, group, self.loaded["state"].get(index, state))


def _check_names(names: Sequence[str], saved_names: Sequence[str]) -> None:
    """Raise ValueError where tensors have other names than when the state was saved, apart from wrappers' prefixes."""
    for name, saved in zip(names, saved_names, strict=False):
        if _without_wrappers(name) != _without_wrappers(saved):
            raise ValueError(
                f"the state of tensor {saved} was to be given tensor {name}: hand the parameters over in the same order"
            )


def _without_wrappers(name: str) -> list[str]:
    return [part for part in name.split(".") if part not in WRAPPERS]


def restore(weight: Tensor, state: State, group: dict[str, Any], source: State) -> None:
    """Adapt a loaded state to its tensor, in place.

    Args:
        weight, state, group: the tensor, its state as the base class has loaded it, and its parameter group.
        source: the state that was loaded. The base class has cast all of it to the type of the weight.

    Raises:
        ValueError: naming the tensor, if this cannot be its state.
    """
    check_fits(weight, state, group)
    if "mask" in state:
        state["mask"] = state["mask"].to(torch.uint8)
        state["kept"] = masks.counts(state["mask"], weight.numel()).tolist()
        for name in memory_format.MOMENTS:
            state[name] = state[name].contiguous()
    if "row_avg_sq" in state:  # sums of squares need the range of float32
        dtype = torch.promote_types(weight.dtype, torch.float32)
        state["row_avg_sq"] = source["row_avg_sq"].to(weight.device, dtype, copy=True)
    memory_format.match(weight, state)


def check_fits(weight: Tensor, state: State, group: dict[str, Any]) -> None:
    """Raise ValueError, naming the tensor and the reason, if this cannot be its state."""
    problem = _problem(weight, state)
    if problem is not None:
        shape = tuple(weight.shape)
        raise ValueError(
            f"the state of {checks.label(weight, group)} does not fit a weight of shape {shape}: {problem}"
        )


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
