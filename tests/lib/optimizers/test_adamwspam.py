from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

from lib.optimizers import AdamWAdv, AdamWSpam


def one_weight(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def test_without_clipping_and_resets_it_is_torch_adamw() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(5, 4)
    theirs = copy.deepcopy(ours)
    first = AdamWSpam(ours.parameters(), spike_threshold=0.0, reset_interval=0)
    second = torch.optim.AdamW(theirs.parameters())
    for step in range(20):
        for model in (ours, theirs):
            generator = torch.Generator().manual_seed(step)
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=generator)
        first.step()
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_spike_is_cut_to_the_threshold_times_the_second_moment() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = AdamWSpam([weight], spike_threshold=5000.0, reset_interval=0)
    weight.grad = torch.tensor([1.0, 1.0])
    optimizer.step()
    second_moment = optimizer.state[weight]["exp_avg_sq"][0].item()
    weight.grad = torch.tensor([-100.0, 1.0])
    optimizer.step()
    assert weight.grad.tolist() == pytest.approx([-math.sqrt(5000 * second_moment), 1.0])


def test_a_weight_without_history_is_never_a_spike() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = AdamWSpam([weight], spike_threshold=5000.0)
    weight.grad = torch.tensor([0.0, 1.0])
    optimizer.step()
    weight.grad = torch.tensor([7.0, 1.0])
    optimizer.step()
    assert weight.grad[0] == 7.0


def test_moments_are_forgotten_every_interval() -> None:
    weight = one_weight()
    optimizer = AdamWSpam([weight], reset_interval=3, reset_warmup=0)
    counts = []
    for _ in range(8):
        weight.grad = torch.ones(1)
        optimizer.step()
        counts.append(int(optimizer.state[weight]["step"]))
    assert counts == [1, 2, 3, 1, 2, 3, 1, 2]


def test_the_rate_warms_up_along_a_cosine_after_a_reset_and_is_left_as_it_was() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = AdamWSpam([weight], weight_decay=0.0, reset_interval=10, reset_warmup=4)
    weight.grad = torch.ones_like(weight)
    strides = []
    for _ in range(15):
        before = weight.item()
        optimizer.step()  # under gradients that are always the same, by the whole rate
        strides.append((before - weight.item()) / 1e-3)
    expected = [1.0] * 10 + [0.5 * (1 - math.cos(math.pi * k / 4)) for k in (1, 2, 3)] + [1.0, 1.0]
    assert strides == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_a_saved_state_keeps_its_place_between_resets() -> None:
    def run(weight: nn.Parameter, optimizer: AdamWSpam, steps: range) -> None:
        for step in steps:
            weight.grad = torch.tensor([math.sin(step)])
            optimizer.step()

    whole = one_weight()
    run(whole, AdamWSpam([whole], reset_interval=5, reset_warmup=3), range(17))
    weight = one_weight()
    optimizer = AdamWSpam([weight], reset_interval=5, reset_warmup=3)
    run(weight, optimizer, range(7))
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    optimizer = AdamWSpam([weight], reset_interval=5, reset_warmup=3)
    optimizer.load_state_dict(torch.load(saved, weights_only=True))
    run(weight, optimizer, range(7, 17))
    assert torch.equal(whole, weight)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"spike_threshold": -1.0}, "spike_threshold"),
        ({"reset_interval": -1}, "reset_interval"),
        ({"reset_warmup": -1}, "reset_warmup"),
    ],
)
def test_bad_arguments_are_named(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AdamWSpam([one_weight()], **settings)


@pytest.mark.parametrize("kind", [AdamWSpam, AdamWAdv])
def test_step_hooks_run_once_whatever_other_optimizers_there_are(kind: type[torch.optim.Optimizer]) -> None:
    weight = nn.Parameter(torch.randn(3, 3))
    calls = []
    optimizer = kind([weight])
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    for make in (None, torch.optim.Adam, torch.optim.AdamW):
        if make is not None:
            make([nn.Parameter(torch.randn(2))])
        calls.clear()
        weight.grad = torch.randn(3, 3)
        optimizer.step()
        assert calls == ["before", "after"]


def test_a_step_that_fails_leaves_rate_and_count_as_they_were() -> None:
    weight = nn.Parameter(torch.randn(3, 3))
    optimizer = AdamWSpam([weight], lr=0.1, reset_interval=2, reset_warmup=4)
    for _ in range(2):
        weight.grad = torch.randn(3, 3)
        optimizer.step()
    weight.grad = torch.randn(3, 3).to_sparse()
    with pytest.raises(RuntimeError):
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 and optimizer.param_groups[0]["steps"] == 2
