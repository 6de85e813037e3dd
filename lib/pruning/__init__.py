"""Pruning methods by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .magnitude import Magnitude
from .movement import Movement
from .prunable import prunable_parameters
from .pruner import MaskedPruner, Pruner
from .schedule import CubicSchedule

if TYPE_CHECKING:
    from ..config.run_config import RunConfig

MASKED: dict[str, type[MaskedPruner]] = {"magnitude": Magnitude, "movement": Movement}


def build(config: RunConfig, model: nn.Module, optimizer: torch.optim.Optimizer, total_steps: int) -> Pruner:
    """The pruner of a run of ``total_steps`` optimizer steps."""
    if config.pruning_method == "none":
        return Pruner(model, optimizer, prunable_parameters(model))
    weights = prunable_parameters(model, bool(config.prune_first), bool(config.prune_last))
    if config.pruning_method == "state":
        from ..optimizers.adamwprune import AdamWPrune
        from ..training.state_pruner import State  # not above: the optimizer itself imports this package

        if not isinstance(optimizer, AdamWPrune):
            raise ValueError(f"pruning method state needs adamwprune, not {config.optimizer}")
        return State(model, optimizer, weights)
    assert config.pruning_start is not None and config.pruning_end is not None
    assert config.pruning_interval is not None and config.min_density is not None
    schedule = CubicSchedule.from_fractions(
        config.target_sparsity, config.pruning_start, config.pruning_end, config.pruning_interval, total_steps
    )
    method = MASKED[config.pruning_method]
    return method(model, optimizer, weights, schedule, str(config.ranking), config.min_density)
