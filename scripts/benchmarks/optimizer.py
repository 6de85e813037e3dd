"""Time optimizer steps and mask updates on the parameters of ResNet-18, against torch's AdamW."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.optimizers.adamwprune import AdamWPrune
from resnet18.model import ResNet18
from scripts.benchmarks.interleaved import Events, time_interleaved

SPARSITIES = (0.0, 0.7, 0.9)
FUSED = {"foreach": False, "fused": True}


def measure(device: torch.device, rounds: int) -> Events:
    model = ResNet18().to(device)
    gradients = [torch.randn_like(weight) * 1e-2 for weight in model.parameters()]
    steps: dict[str, torch.optim.Optimizer] = {}
    for way, fused in FUSED.items():
        steps[f"torch AdamW, {way}"] = torch.optim.AdamW(_copies(model, gradients), foreach=not fused, fused=fused)
        for sparsity in SPARSITIES:
            steps[f"AdamWPrune {sparsity:.0%}, {way}"] = _pruned(_copies(model, gradients), sparsity, fused)
            if sparsity:
                lean = _before_the_ramp(_copies(model, gradients), sparsity, fused)
                steps[f"AdamWPrune {sparsity:.0%}, lean and not pruned yet, {way}"] = lean
    for way in FUSED:
        calls = {name: _timed(optimizer, device) for name, optimizer in steps.items() if name.endswith(way)}
        # more rounds than elsewhere: a step is short, and easily disturbed
        yield from time_interleaved(f"optimizer step, ResNet-18, {way}", calls, 5 * rounds)
    for mode in ("gradual", "lean"):
        yield from _mask_update(_copies(model, gradients), mode, device, max(rounds // 4, 3))


def _mask_update(weights: list[nn.Parameter], mode: str, device: torch.device, rounds: int) -> Events:
    """Time a step that ends with a mask update, against the one before it, along a ramp to 70 %."""
    optimizer = AdamWPrune(weights, sparsity=0.7, end_step=4 * rounds + 8, update_interval=2, mode=mode, fused=True)
    step = _timed(optimizer, device)
    for _ in range(4):  # past the first updates, so that states are compact
        step()
    calls = {"AdamWPrune, a step without update": step, "AdamWPrune, a step with update": step}
    yield from time_interleaved(f"mask update, ResNet-18, {mode}, fused", calls, rounds)


def _timed(optimizer: torch.optim.Optimizer, device: torch.device) -> Callable[[], None]:
    def step() -> None:
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _pruned(weights: list[nn.Parameter], sparsity: float, fused: bool) -> AdamWPrune:
    """Return an optimizer at its final sparsity."""
    optimizer = AdamWPrune(weights, sparsity=sparsity, end_step=1, update_interval=1, foreach=not fused, fused=fused)
    optimizer.step()
    return optimizer


def _before_the_ramp(weights: list[nn.Parameter], sparsity: float, fused: bool) -> AdamWPrune:
    """Return a lean optimizer that has pruned nothing for as long as it is timed."""
    return AdamWPrune(
        weights, sparsity=sparsity, mode="lean", end_step=10**6, update_interval=10**5, foreach=not fused, fused=fused
    )


def _copies(model: nn.Module, gradients: list[Tensor]) -> list[nn.Parameter]:
    weights = [nn.Parameter(weight.detach().clone()) for weight in model.parameters()]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    return weights
