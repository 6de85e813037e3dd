"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..pruning.prunable import prunable_parameters
from ..pruning.schedule import CubicSchedule
from .adamwadv import AdamWAdv
from .adamwprune import AdamWPrune
from .adamwspam import AdamWSpam

if TYPE_CHECKING:
    from ..config.run_config import RunConfig

Groups = list[dict[str, Any]]


def build(config: RunConfig, model: nn.Module, total_steps: int) -> Optimizer:
    """The optimizer of a run of ``total_steps`` steps. Biases and norm parameters get no weight decay."""
    prunable = _prunable(config, model)
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups: Groups = [
        {"params": [(name, weight) for name, weight in named if id(weight) in prunable]},
        {"params": [(name, weight) for name, weight in named if id(weight) not in prunable and weight.dim() >= 2]},
        {"params": [(name, weight) for name, weight in named if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer](config, [group for group in groups if group["params"]], total_steps)


def _sgd(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return SGD(
        groups,
        lr=_rate(config),
        momentum=float(config.momentum or 0.0),
        nesterov=bool(config.nesterov),
        weight_decay=float(config.weight_decay or 0.0),
        fused=_fused(groups),
    )


def _adam(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return Adam(groups, **_common(config, groups))


def _adamw(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    return AdamW(groups, **_common(config, groups))


def _adamwadv(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    assert config.clip_norm is not None
    return AdamWAdv(groups, clip_norm=config.clip_norm, amsgrad=bool(config.amsgrad), **_common(config, groups))


def _adamwspam(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    assert config.spike_threshold is not None
    assert config.reset_interval is not None and config.reset_warmup is not None
    return AdamWSpam(
        groups,
        spike_threshold=config.spike_threshold,
        reset_interval=config.reset_interval,
        reset_warmup=config.reset_warmup,
        **_common(config, groups),
    )


def _adamwprune(config: RunConfig, groups: Groups, total_steps: int) -> Optimizer:
    if config.pruning_method != "state":
        return AdamWPrune(groups, **_common(config, groups))
    assert config.pruning_start is not None and config.pruning_end is not None
    assert config.pruning_interval is not None and config.min_density is not None
    assert config.regrowth is not None
    schedule = CubicSchedule.from_fractions(
        config.target_sparsity, config.pruning_start, config.pruning_end, config.pruning_interval, total_steps
    )
    for group in groups[1:]:
        group["prunable"] = False
    groups[0]["prunable"] = True
    return AdamWPrune(
        groups,
        sparsity=schedule.final,
        start_step=schedule.start,
        end_step=schedule.end,
        update_interval=schedule.interval,
        criterion=str(config.criterion),
        exponent=config.exponent or 0.0,  # None: the criterion has none
        ranking=str(config.ranking),
        min_density=config.min_density,
        mode=str(config.mode),
        regrowth=config.regrowth,
        **_common(config, groups),
    )


OPTIMIZERS: dict[str, Callable[[RunConfig, Groups, int], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adamwadv": _adamwadv,
    "adamwspam": _adamwspam,
    "adamwprune": _adamwprune,
}


def _common(config: RunConfig, groups: Groups) -> dict[str, Any]:
    return {
        "lr": _rate(config),
        "betas": (config.beta1, config.beta2),
        "eps": config.eps,
        "weight_decay": config.weight_decay,
        "fused": _fused(groups),
    }


def _rate(config: RunConfig) -> float:
    assert config.learning_rate is not None
    return config.learning_rate


def _fused(groups: Groups) -> bool:
    """One kernel per step where torch has one for the device."""
    _name, first = groups[0]["params"][0]
    device: torch.device = first.device
    return device.type in ("cpu", "cuda")


def _prunable(config: RunConfig, model: nn.Module) -> set[int]:
    """Ids of the weights that the run prunes; of all that could be, if it prunes none."""
    first, last = config.prune_first, config.prune_last
    weights = prunable_parameters(model, first is None or first, last is None or last)
    return {id(weight) for weight in weights.values()}
