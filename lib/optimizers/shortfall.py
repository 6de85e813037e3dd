"""Warn where less is pruned than was asked for, or more: never end at another sparsity in silence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..pruning.schedule import CubicSchedule
from ..pruning.score_histogram import MaskUpdate, bin_edges
from . import checks
from .mask_updates import PrunableTensor

NAMED = 3  # tensors that a warning names at most


def warn_if_one_jump(schedule: CubicSchedule) -> None:
    """Warn if the ramp is over before the first regular mask update."""
    ramp = schedule.end - schedule.start
    if schedule.final and schedule.interval > ramp > 1:
        warnings.warn(
            f"update_interval {schedule.interval} is longer than the ramp of {ramp} steps: all weights are pruned in "
            f"one update at step {schedule.end}",
            stacklevel=3,
        )


def warn_if_nothing_is_prunable(schedule: CubicSchedule, tensors: Sequence[PrunableTensor]) -> None:
    """Warn, before the first step, if no tensor takes part."""
    if schedule.final and not tensors:
        warnings.warn(
            f"sparsity {schedule.final:g} was asked for, but no tensor is prunable, so that nothing will be pruned: "
            "weights have two dimensions or more (those that FSDP1 has flattened have one)",
            stacklevel=3,
        )


def warn_if_too_late(schedule: CubicSchedule, steps: int, tensors: Sequence[PrunableTensor]) -> None:
    """Warn if tensors join after the ramp has ended, since they stay dense."""
    if schedule.final and tensors and steps >= schedule.end:
        warnings.warn(
            f"{_names(tensors)} joined after the ramp had ended at step {schedule.end} and will not be pruned",
            stacklevel=3,
        )


def warn_if_missed(schedule: CubicSchedule, steps: int, tensors: Sequence[PrunableTensor]) -> None:
    """Warn if less is pruned than was asked for although the ramp has ended, or more."""
    size = sum(tensor.size for tensor in tensors)
    pruned, target = size - sum(tensor.num_survivors for tensor in tensors), round(schedule.final * size)
    if not size or pruned == target or (pruned < target and steps < schedule.end):
        return
    reason = "a layer was frozen on the ramp, or the state was made for another sparsity"
    if pruned < target:
        reason = "the state was made for another sparsity or schedule"
        without_state = [tensor for tensor in tensors if "exp_avg" not in tensor.state]
        dense = [tensor for tensor in tensors if "mask" not in tensor.state]
        if without_state:
            reason = f"{_names(without_state)} had no gradient"
        elif dense:
            reason = f"{_names(dense)} took part in no mask update"
    warnings.warn(
        f"sparsity {schedule.final:g} was asked for, but {pruned / size:.4g} is reached at step {steps}: {reason}",
        stacklevel=3,
    )


def warn_if_scores_tell_nothing(update: MaskUpdate | None) -> None:
    """Warn if weights were pruned by their position alone, because every score is zero."""
    if update is not None and update.pruned.any() and not bin_edges(update.coarse.bins).any():
        warnings.warn(
            f"all scores are zero at step {update.step}: the weights that come first in their tensors are pruned",
            stacklevel=3,
        )


def _names(tensors: Sequence[PrunableTensor]) -> str:
    names = [checks.label(tensor.weight, tensor.group) for tensor in tensors[:NAMED]]
    return ", ".join(names) + (f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else "")
