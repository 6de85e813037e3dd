"""Collect the state of a training run for a checkpoint, and restore it from one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from ..config.run_config import RunConfig, check_resumable
from ..pruning.pruner import Pruner
from . import seeding
from .progress import Progress


class Resumable(Protocol):
    """A training run, as far as its state goes."""

    config: RunConfig
    progress: Progress
    model: nn.Module
    optimizer: torch.optim.Optimizer
    pruner: Pruner
    scaler: torch.amp.GradScaler

    def mask_update(self) -> dict[str, Any] | None:
        """Return what the latest mask update ranked and pruned, or None."""


def capture(training: Resumable) -> dict[str, Any]:
    """Return all that a resumed run needs to continue bit for bit."""
    progress = training.progress
    return {
        "config": training.config.to_yaml(),
        "epoch": progress.epoch,
        "step": progress.step,
        "history": progress.history,
        "running": {
            "seconds": progress.seconds,
            "memory_before": progress.memory_after_first_step,
            "mask_update": training.mask_update(),
            "loss": progress.loss,
            "correct": progress.correct,
        },
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "pruner": training.pruner.state_dict(),
        "scaler": training.scaler.state_dict(),
        "random": seeding.random_state(),
    }


def restore(training: Resumable, state: dict[str, Any]) -> None:
    """Continue from what `capture` returned. Raises ConfigError if it belongs to another configuration."""
    check_resumable(RunConfig.from_yaml(state["config"]), training.config)
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.pruner.load_state_dict(state["pruner"])
    training.scaler.load_state_dict(state["scaler"])
    seeding.restore_random_state(state["random"])
    progress, running = training.progress, state["running"]
    progress.epoch, progress.step, progress.history = state["epoch"], state["step"], state["history"]
    progress.seconds = running["seconds"]
    progress.memory_after_first_step = running["memory_before"]
    progress.mask_update = running["mask_update"]
    progress.loss.copy_(running["loss"])
    progress.correct.copy_(running["correct"])
