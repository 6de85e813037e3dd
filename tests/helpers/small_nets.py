"""Small networks that are given the same random gradients, so that optimizers can be compared step by step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from lib.optimizers import AdamWPrune


def net(sizes: tuple[int, ...] = (13, 16, 10, 3)) -> nn.Sequential:
    """Linear layers of these sizes with tanh between them, the same ones at every call."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers)


def set_gradients(model: nn.Module, step: int) -> None:
    """Give random gradients, those of the step, so that a reference model can be given the very same ones."""
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Take steps with the gradients of these steps."""
    for step in steps:
        set_gradients(model, step)
        optimizer.step()


def prune(model: nn.Module, **settings: Any) -> AdamWPrune:
    """AdamWPrune with a short ramp to 80 %."""
    defaults: dict[str, Any] = {"lr": 0.01, "sparsity": 0.8, "start_step": 2, "end_step": 20, "update_interval": 3}
    return AdamWPrune(model.parameters(), **(defaults | settings))


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    """The parameters are the same, bit for bit."""
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
