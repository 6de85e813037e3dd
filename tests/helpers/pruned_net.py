"""A small network that is pruned while random images go through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lib.pruning import CubicSchedule, prunable_parameters
from lib.pruning.pruner import MaskedPruner, Pruner


def net() -> nn.Sequential:
    """A convolution and two linear layers, the same ones at every call."""
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner, steps: range) -> None:
    """Take steps, each with the images of its number."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(8, 1, 4, 4, generator=generator)
        optimizer.zero_grad()
        model(images).square().sum().backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()


def make(method: type[MaskedPruner], ranking: str = "global", end: int = 8) -> tuple[nn.Module, Any, MaskedPruner]:
    """The network, its optimizer and its pruner, with a ramp to 70 % from step 2 on."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = CubicSchedule(0.7, 2, end, 2)
    return model, optimizer, method(model, optimizer, prunable_parameters(model), schedule, ranking, 0.05)
