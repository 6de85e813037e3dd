"""Build the optimizer and the pruner of a run from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..config.run_config import RunConfig
from ..optimizers import AdamWAdv, AdamWPrune, AdamWSpam
from ..pruning import CubicSchedule, MagnitudePruner, MovementPruner, prunable_parameters
from ..pruning.pruner import MaskedPruner, Pruner
from .state_pruner import State

Groups = list[dict[str, Any]]
Setting = TypeVar("Setting")

MASKED_PRUNERS: dict[str, type[MaskedPruner]] = {
    "magnitude": MagnitudePruner,
    "movement": MovementPruner,
}


def build_optimizer(config: RunConfig, model: nn.Module, total_steps: int) -> Optimizer:
    """Build the optimizer of a run of ``total_steps`` steps. Biases and norm parameters get no weight decay."""
    pruned = {id(weight) for weight in _weights_to_prune(config, model).values()}
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups: Groups = [
        {"params": [(name, weight) for name, weight in named if id(weight) in pruned]},
        {"params": [(name, weight) for name, weight in named if id(weight) not in pruned and weight.dim() >= 2]},
        {"params": [(name, weight) for name, weight in named if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer](config, [group for group in groups if group["params"]], total_steps)


def build_pruner(config: RunConfig, model: nn.Module, optimizer: Optimizer, total_steps: int) -> Pruner:
    """Build the pruner of a run of ``total_steps`` optimizer steps.

    Raises:
        ValueError: pruning method ``state`` without AdamWPrune.
    """
    if config.pruning_method == "none":
        return Pruner(model, optimizer, prunable_parameters(model))
    weights = _weights_to_prune(config, model)
    if config.pruning_method == "state":
        if not isinstance(optimizer, AdamWPrune):
            raise ValueError(f"pruning method state needs adamwprune, not {config.optimizer}")
        return State(model, optimizer, weights)
    pruner = MASKED_PRUNERS[config.pruning_method]
    schedule = schedule_of(config, total_steps)
    return pruner(model, optimizer, weights, schedule, str(config.ranking), _set(config.min_density))


def schedule_of(config: RunConfig, total_steps: int) -> CubicSchedule:
    """Return the pruning schedule of a run of ``total_steps`` optimizer steps that prunes."""
    start, end, interval = _set(config.pruning_start), _set(config.pruning_end), _set(config.pruning_interval)
    return CubicSchedule.from_fractions(config.target_sparsity, start, end, interval, total_steps)


def _sgd(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return SGD(
        groups,
        lr=_set(config.learning_rate),
        momentum=float(config.momentum or 0.0),
        nesterov=bool(config.nesterov),
        weight_decay=float(config.weight_decay or 0.0),
        fused=_fused(groups),
    )


def _adam(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return Adam(groups, **_adam_settings(config, groups))


def _adamw(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return AdamW(groups, **_adam_settings(config, groups))


def _adamwadv(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    clip_norm, amsgrad = _set(config.clip_norm), bool(config.amsgrad)
    return AdamWAdv(groups, clip_norm=clip_norm, amsgrad=amsgrad, **_adam_settings(config, groups))


def _adamwspam(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return AdamWSpam(
        groups,
        spike_threshold=_set(config.spike_threshold),
        reset_interval=_set(config.reset_interval),
        reset_warmup=_set(config.reset_warmup),
        **_adam_settings(config, groups),
    )


def _adamwprune(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    if config.pruning_method != "state":
        return AdamWPrune(groups, **_adam_settings(config, groups))
    for group in groups:
        group["prunable"] = group is groups[0]
    return AdamWPrune(
        groups,
        schedule=schedule_of(config, total_steps),
        criterion=str(config.criterion),
        exponent=config.exponent or 0.0,  # None: the criterion has none
        ranking=str(config.ranking),
        min_density=_set(config.min_density),
        mode=str(config.mode),
        regrowth=_set(config.regrowth),
        **_adam_settings(config, groups),
    )


OPTIMIZERS: dict[str, Callable[[RunConfig, Groups, int], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adamwadv": _adamwadv,
    "adamwspam": _adamwspam,
    "adamwprune": _adamwprune,
}


def _adam_settings(config: RunConfig, groups: Groups) -> dict[str, Any]:
    return {
        "lr": _set(config.learning_rate),
        "betas": (config.beta1, config.beta2),
        "eps": config.eps,
        "weight_decay": config.weight_decay,
        "fused": _fused(groups),
    }


def _fused(groups: Groups) -> bool:
    """Return whether torch has a kernel that takes the whole step on the device of the weights."""
    _name, first = groups[0]["params"][0]
    device: torch.device = first.device
    return device.type in ("cpu", "cuda")


def _weights_to_prune(config: RunConfig, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that the run prunes; all that could be, if it prunes none."""
    first, last = config.prune_first, config.prune_last
    return prunable_parameters(model, first is None or first, last is None or last)


def _set(value: Setting | None) -> Setting:
    """Return a setting that runs of this kind always have (see ``config.resolve``: no other run is started)."""
    assert value is not None
    return value
