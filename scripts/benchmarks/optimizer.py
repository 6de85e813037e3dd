"""Optimizer steps and mask updates on the parameters of ResNet-18, against torch's AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.optimizers.adamwprune import AdamWPrune
from resnet18.model import ResNet18
from scripts.benchmarks.interleaved import Row, time_interleaved

SPARSITIES = (0.0, 0.7, 0.9)
WAYS = {"foreach": {"foreach": True}, "fused": {"fused": True}}
RAMP_AHEAD = {"end_step": 10**6, "update_interval": 10**5}


def measure(device: torch.device, rounds: int) -> list[Row]:
    model = ResNet18().to(device)
    gradients = [torch.randn_like(weight) * 1e-2 for weight in model.parameters()]
    steps: dict[str, torch.optim.Optimizer] = {
        f"torch AdamW, {way}": torch.optim.AdamW(_copies(model, gradients), **settings)
        for way, settings in WAYS.items()
    }
    for sparsity in SPARSITIES:
        for way, settings in WAYS.items():
            steps[f"AdamWPrune {sparsity:.0%}, {way}"] = _pruned(_copies(model, gradients), sparsity, **settings)
            if sparsity:
                lean = AdamWPrune(_copies(model, gradients), sparsity=sparsity, mode="lean", **RAMP_AHEAD, **settings)
                steps[f"AdamWPrune {sparsity:.0%}, lean and not pruned yet, {way}"] = lean
    rows = []
    for way in WAYS:
        calls = {name: _timed(optimizer, device) for name, optimizer in steps.items() if name.endswith(way)}
        rows += time_interleaved(f"optimizer step, ResNet-18, {way}", calls, 5 * rounds)  # short, and easily disturbed
    for mode in ("gradual", "lean"):
        rows += _mask_update(_copies(model, gradients), mode, device, max(rounds // 4, 3))
    return rows


def _mask_update(weights: list[nn.Parameter], mode: str, device: torch.device, rounds: int) -> list[Row]:
    """A step that ends with a mask update, against the one before it, along a ramp to 70 %."""
    optimizer = AdamWPrune(weights, sparsity=0.7, end_step=4 * rounds + 8, update_interval=2, mode=mode, fused=True)
    step = _timed(optimizer, device)
    for _ in range(4):  # past the first updates, so that states are compact
        step()
    calls = {"AdamWPrune, a step without update": step, "AdamWPrune, a step with update": step}
    return time_interleaved(f"mask update, ResNet-18, {mode}, fused", calls, rounds)


def _timed(optimizer: torch.optim.Optimizer, device: torch.device):  # type: ignore[no-untyped-def]
    def step() -> None:
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _pruned(weights: list[nn.Parameter], sparsity: float, **settings: bool) -> AdamWPrune:
    optimizer = AdamWPrune(weights, sparsity=sparsity, end_step=1, update_interval=1, **settings)
    optimizer.step()
    return optimizer


def _copies(model: nn.Module, gradients: list[Tensor]) -> list[nn.Parameter]:
    weights = [nn.Parameter(weight.detach().clone()) for weight in model.parameters()]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    return weights
