"""Notice when somebody else has written to a pruned tensor, and keep its pruned weights at zero.

A pruned weight takes part in no step, so that a value set from outside (``model.load_state_dict``, ``p.copy_``,
``p.data = ...``) would stay for ever. Every write advances a tensor's version counter and another ``data`` has another
address: comparing both costs nothing, and only tensors that differ are looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..kernels import host
from ..pruning import masks
from . import checks, memory_format, state_loading
from .sparse_state import State

Fingerprint = tuple[int, int, torch.Size, tuple[int, ...]]
Tensors = Iterable[tuple[Tensor, State, dict[str, Any]]]


class OutsideChanges:
    """Remember how the optimizer left its pruned tensors, and restore what was changed since."""

    def __init__(self) -> None:
        self._left: dict[Tensor, Fingerprint | None] = {}  # None: a state was loaded, and nothing is known

    def remember(self, tensors: Tensors) -> None:
        """Remember the pruned tensors as they are now, at the end of a step."""
        self._left = {weight: _fingerprint(weight) for weight, state, _ in tensors if _has_fixed_zeros(state)}

    def distrust(self, tensors: Tensors) -> None:
        """Have the pruned tensors looked at before the next step: their states have just been loaded."""
        self._left = {weight: None for weight, state, _ in tensors if _has_fixed_zeros(state)}

    def restore(self, tensors: Tensors, everything: bool = False) -> None:
        """Set pruned weights that are not zero to zero again, with a warning that names the tensor.

        Args:
            tensors: tensors with states and parameter groups; those without a mask are skipped.
            everything: whether to look at tensors that have not changed, too.

        Raises:
            ValueError: a tensor has been replaced by one that its state does not fit, or that cannot be pruned.
        """
        for weight, state, group in tensors:
            if not _has_fixed_zeros(state):
                continue
            changed = weight in self._left and self._left[weight] != _fingerprint(weight)
            if changed or everything:
                _restore(weight, state, group)


def _has_fixed_zeros(state: State) -> bool:
    """Return whether every weight outside of the mask is pruned; in lean mode they may train until the ramp ends."""
    return "mask" in state and "row_avg_sq" not in state


def _fingerprint(weight: Tensor) -> Fingerprint:
    return weight._version, host.current().address(weight), weight.shape, weight.stride()


def _restore(weight: Tensor, state: State, group: dict[str, Any]) -> None:
    checks.check_prunable(weight, group)
    state_loading.check_fits(weight, state, group)
    memory_format.match(weight, state)
    flat_weight, count = masks.flat(weight.detach()), 0
    for start, stop in masks.slices(flat_weight.numel()):
        pruned = masks.unpack(state["mask"], start, stop).logical_not_()
        count += int(pruned.logical_and_(flat_weight[start:stop] != 0).sum())
    if count:
        masks.zero_pruned(weight.detach(), state["mask"])
        warnings.warn(
            f"{count} pruned weights of {checks.label(weight, group)} had been set from outside and are zero again; "
            "load the optimizer's state together with the model's",
            stacklevel=2,
        )
