from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lib.optimizers.adamwadv import AdamWAdv


def pair() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    model = nn.Linear(5, 4)
    return model, copy.deepcopy(model)


def gradients(model: nn.Module, step: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator) * scale


@pytest.mark.parametrize("amsgrad", [False, True])
def test_without_clipping_it_is_torch_adamw(amsgrad: bool) -> None:
    ours, theirs = pair()
    first = AdamWAdv(ours.parameters(), clip_norm=0.0, amsgrad=amsgrad)
    second = torch.optim.AdamW(theirs.parameters(), amsgrad=amsgrad)
    for step in range(20):
        gradients(ours, step)
        gradients(theirs, step)
        first.step()
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_the_whole_gradient_is_clipped_to_the_norm() -> None:
    model, _ = pair()
    optimizer = AdamWAdv(model.parameters(), clip_norm=1.0)
    gradients(model, 0, scale=100.0)
    optimizer.step()
    norm = torch.cat([weight.grad.view(-1) for weight in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1.0, rel=1e-4)


def test_gradients_below_the_norm_are_left_alone() -> None:
    model, _ = pair()
    optimizer = AdamWAdv(model.parameters(), clip_norm=1.0)
    gradients(model, 0, scale=1e-3)
    before = model.weight.grad.clone()
    optimizer.step()
    assert torch.equal(model.weight.grad, before)


def test_the_maximum_of_the_second_moment_is_kept() -> None:
    model, _ = pair()
    optimizer = AdamWAdv(model.parameters(), clip_norm=0.0)
    gradients(model, 0, scale=10.0)
    optimizer.step()
    peak = optimizer.state[model.weight]["max_exp_avg_sq"].clone()
    for _ in range(5):
        gradients(model, 0, scale=0.0)
        optimizer.step()
    assert torch.equal(optimizer.state[model.weight]["max_exp_avg_sq"], peak)


def test_a_negative_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        AdamWAdv(pair()[0].parameters(), clip_norm=-1.0)
