"""The kernels of lib/kernels/triton_step.py against torch's operations, on the CPU in Triton's interpreter.

Run by test_triton_step.py with TRITON_INTERPRET=1, which has to be set before Triton is imported.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lib.kernels import cpu, triton_step
from lib.optimizers import lean, sparse_state, sparse_step
from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "maximize": False}


def pruned_tensor(size: int, density: float, steps: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Weights, gradients and state of a tensor of which about a share ``density`` survives."""
    keep = torch.rand(size) < density
    kept = int(keep.sum())
    state = {
        "exp_avg": torch.randn(kept),
        "exp_avg_sq": torch.rand(kept),
        "mask": masks.pack(keep),
        "step": torch.tensor(float(steps)),
        "kept": [int(part.sum()) for part in keep.split(masks.SLICE)],
        "channels_last": False,
    }
    return torch.randn(size) * keep, torch.randn(size), state


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize(
    "changes",
    [{}, {"betas": (0.0, 0.95)}, {"maximize": True}, {"weight_decay": 0.0, "eps": 1e-3}],
    ids=["plain", "betas", "maximize", "eps"],
)
def test_kernels_agree_with_torchs_operations(density: float, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    group = SETTINGS | changes | {"foreach": None, "fused": False}
    sizes = (1, 7, triton_step.BLOCK, triton_step.BLOCK + 1, 5000)  # five columns of eight: some stay unused
    tensors = [pruned_tensor(size, density, steps) for steps, size in enumerate(sizes)]
    others = copy.deepcopy(tensors)
    for _ in range(3):
        triton_step.step(tensors, group)
        for weight, gradient, state in others:
            sparse_step.torch_step(weight, gradient, weight, state, group)
    for (weight, _, state), (other, _, expected) in zip(tensors, others, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(weight == 0, other == 0)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            torch.testing.assert_close(state[name], expected[name], rtol=1e-5, atol=1e-6)


def test_survivors_of_values_that_are_no_numbers_touch_nothing_else() -> None:
    torch.manual_seed(0)
    weight, gradient, state = pruned_tensor(3000, 0.3, 1)
    pruned = weight == 0
    gradient[pruned] = torch.nan
    triton_step.step([(weight, gradient, state)], SETTINGS)
    assert weight.isfinite().all() and (weight[pruned] == 0).all()


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_scaled_steps_agree_with_torchs_operations(density: float) -> None:
    torch.manual_seed(0)
    shapes = ((1, 1), (7, 3), (16, triton_step.BLOCK // 16), (5, 1025), (3, 1000))
    tensors = []
    for rows, length in shapes:
        weight, gradient, state = pruned_tensor(rows * length, density, 0)
        without = masks.unpack(state["mask"], 0, rows * length).logical_not_()
        weight[without] = torch.tensor([1.5, 0.0, -0.0])[torch.randint(3, (int(without.sum()),))]
        gradient[0] = torch.nan
        tensors.append((weight, gradient, state["mask"], torch.rand(rows)))
    others = copy.deepcopy(tensors)
    for _ in range(3):
        triton_step.scaled_step(tensors, 0.1, 0.5)
        for weight, gradient, mask, scales in others:
            lean.torch_step(weight, gradient, scales, mask, 0.1, 0.5)
    for (weight, *_), (other, *_) in zip(tensors, others, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert torch.equal(lean.is_pruned(weight), lean.is_pruned(other))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_ramp_ends_as_with_torchs_operations(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer as a GPU would drive it: the questions for the device are answered for it."""
    monkeypatch.setattr(cpu, "supports", lambda tensor: False)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 24, 3), nn.Linear(24, 60)).to(memory_format=layout)
    plain = train(copy.deepcopy(model))
    calls = []

    def by_kernels(tensors: list[tuple[torch.Tensor, dict[str, Any]]], group: dict[str, Any]) -> None:
        calls.append(len(tensors))
        flat = [(masks.flat(w.detach()), masks.flat(sparse_state.gradient(w)), state) for w, state in tensors]
        triton_step.step(flat, group)

    monkeypatch.setattr(sparse_step, "step", by_kernels)
    kernels = train(model)
    assert calls and set(calls) == {3}
    for first, second in zip(kernels, plain, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
        assert torch.equal(first == 0, second == 0)


def train(model: nn.Module) -> list[torch.Tensor]:
    optimizer = AdamWPrune(model.parameters(), lr=0.01, sparsity=0.8, end_step=12, update_interval=3, exponent=0.0)
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


def test_another_default_device_does_not_matter() -> None:
    torch.manual_seed(0)
    weight, gradient, state = pruned_tensor(3000, 0.3, 1)
    other = copy.deepcopy((weight, gradient, state))
    triton_step.step([(weight, gradient, state)], SETTINGS)
    with torch.device("meta"):
        triton_step.step([other], SETTINGS)
    assert torch.equal(weight, other[0])
