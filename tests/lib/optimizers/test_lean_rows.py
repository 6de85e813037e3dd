"""What a row of weights without moments shares in AdamWPrune's lean mode."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from lib.optimizers import lean
from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks


def test_rows_of_half_precision_weights_do_not_overflow() -> None:
    weight = nn.Parameter(torch.randn(4, 4096).half())
    optimizer = AdamWPrune([weight], sparsity=0.5, end_step=20, update_interval=5, mode="lean")
    for step in range(25):
        weight.grad = torch.full_like(weight, 8.0)
        optimizer.step()
        if step == 9:
            rows = optimizer.state[weight]["row_avg_sq"]
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            assert optimizer.state[weight]["row_avg_sq"].dtype == torch.float32
            assert torch.equal(optimizer.state[weight]["row_avg_sq"], rows)
    assert int((weight == 0).sum()) == 2 * 4096


@pytest.mark.parametrize("way", [{"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("shape", [(4096,), (4096, 1)])
def test_a_tensor_with_one_weight_an_output_is_one_row(shape: tuple[int, ...], way: dict[str, bool]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    groups = [{"params": [weight], "prunable": True}]
    optimizer = AdamWPrune(groups, sparsity=0.9, end_step=20, update_interval=5, mode="lean", **way)
    for step in range(25):
        weight.grad = torch.randn(shape)
        optimizer.step()
        held = 8 * 410 + 4 + (4 if step < 19 else 0)  # moments, step count, the row's second moment
        assert optimizer.memory_bytes() == {"optimizer_state": held, "pruning_state": 512}
        if step == 9:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert int((weight == 0).sum()) == 4096 - 410


@pytest.mark.parametrize("shape", [(7, 9), (3, 200), (1, 500), (2, 129), (130,)])
def test_rows_shorter_and_longer_than_a_slice_are_spread_alike(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "SLICE", 64)
    weight = torch.empty(shape)
    values = torch.rand(shape[0] if len(shape) > 1 else 1)
    expected = values.repeat_interleave(weight.numel() // len(values))
    for start, stop in masks.slices(weight.numel()):
        assert torch.equal(lean.spread_rows(values, weight, start, stop), expected[start:stop])


@pytest.mark.parametrize("way", [{"foreach": False}, {"fused": True}])
def test_a_gradient_that_is_infinite_at_a_pruned_weight_is_reported_by_the_next_update(way: dict[str, bool]) -> None:
    weight = nn.Parameter(torch.randn(4, 16))
    optimizer = AdamWPrune([("w", weight)], sparsity=0.5, end_step=20, update_interval=2, mode="lean", **way)
    for step in range(7):
        weight.grad = torch.randn(4, 16)
        if step == 6:
            weight.grad[weight == 0] = torch.inf
        optimizer.step()
    with pytest.raises(ValueError, match="layer w: a score is NaN or infinite"):
        optimizer.step()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95), (0.0, 0.9)])
@pytest.mark.parametrize("steps", [1, 2, 10, 60])
def test_the_bound_is_how_far_adam_can_go(betas: tuple[float, float], steps: int) -> None:
    """The gradients that Cauchy and Schwarz name take Adam there, others not as far."""
    beta1, beta2 = betas
    worst = [(beta1 / beta2) ** (steps - i) for i in range(1, steps + 1)]
    bound = lean.max_adam_step(betas, steps)
    torch.manual_seed(0)
    for gradients in (worst, *torch.randn(20, steps).tolist()):
        weight = nn.Parameter(torch.zeros(1))
        adam = torch.optim.Adam([weight], lr=1.0, betas=betas, eps=1e-20)
        for gradient in gradients:
            before = weight.item()
            weight.grad = torch.tensor([gradient])
            adam.step()
        step = abs(weight.item() - before)
        assert step == pytest.approx(bound, rel=1e-3) if gradients is worst else step <= bound * 1.001


def test_where_adam_has_no_bound_there_is_none() -> None:
    assert lean.max_adam_step((0.9, 0.5), 10) == math.inf
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = AdamWPrune([weight], lr=0.0, betas=(0.9, 0.5), sparsity=0.5, end_step=9, update_interval=9, mode="lean")
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 2))


def test_a_state_of_single_precision_goes_on_in_double() -> None:
    weight = nn.Parameter(torch.randn(6, 8))
    optimizer = AdamWPrune([weight], sparsity=0.5, end_step=9, update_interval=3, mode="lean")
    weight.grad = torch.randn(6, 8)
    optimizer.step()
    double = nn.Parameter(weight.detach().double())
    resumed = AdamWPrune([double], sparsity=0.5, end_step=9, update_interval=3, mode="lean")
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(10):
        double.grad = torch.randn(6, 8, dtype=torch.float64)
        resumed.step()
    assert resumed.sparsity() == 0.5


@pytest.mark.parametrize("fused", [False, True])
def test_a_tensor_that_joins_late_moves_no_further_than_adam_in_its_own_first_step(fused: bool) -> None:
    early, late = nn.Parameter(torch.ones(4, 50)), nn.Parameter(torch.ones(4, 50))
    optimizer = AdamWPrune(
        [early, late], lr=0.1, weight_decay=0.0, sparsity=0.5, end_step=4000, update_interval=3000, mode="lean",
        fused=fused,
    )  # fmt: skip
    for _ in range(200):
        early.grad = torch.ones(4, 50)
        optimizer.step()
    late.grad = torch.full((4, 50), 1e-4)
    late.grad[:, ::10] = 100.0  # far above the root mean square of their rows
    optimizer.step()
    assert (1.0 - late.detach()).abs().max() <= 0.1001
