"""AdamWPrune's states are saved, loaded, copied and reordered without a weight noticing."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from lib.optimizers.adamwadv import AdamWAdv
from lib.optimizers.adamwprune import AdamWPrune
from lib.optimizers.adamwspam import AdamWSpam
from tests.helpers.small_nets import assert_equal, net, prune, run, set_gradients


@pytest.mark.parametrize(
    "settings", [{}, {"regrowth": 0.3}, {"mode": "dynamic", "regrowth": 0.3}, {"mode": "lean"}, {"fused": True}]
)
@pytest.mark.parametrize("stop", [0, 1, 9, 22])
def test_a_saved_state_goes_on_bit_for_bit(settings: dict[str, Any], stop: int) -> None:
    whole = net()
    run(whole, prune(whole, **settings), range(30))

    model = net()
    optimizer = prune(model, **settings)
    run(model, optimizer, range(stop))
    saved = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], saved)
    saved.seek(0)
    states = torch.load(saved, weights_only=True)
    model = net()
    optimizer = prune(model, **settings)
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    run(model, optimizer, range(stop, 30))
    assert_equal(whole, model)


def test_a_state_dict_is_as_small_as_the_states() -> None:
    model = net((64, 256, 64))
    sizes = []
    for steps in (2, 30):
        optimizer = prune(model, sparsity=0.9)
        run(model, optimizer, range(steps))
        saved = io.BytesIO()
        torch.save(optimizer.state_dict(), saved)
        sizes.append(saved.tell() - sum(optimizer.memory_bytes().values()))
    assert max(sizes) < 6000  # names and numbers, whatever the sparsity


@pytest.mark.parametrize("stop", [1, 9, 25])
def test_a_state_saved_contiguous_loads_into_a_channels_last_model(stop: int) -> None:
    def model(memory_format: torch.memory_format) -> nn.Module:
        torch.manual_seed(0)
        return nn.Conv2d(3, 8, 3).to(memory_format=memory_format)

    whole = model(torch.contiguous_format)
    first = prune(whole)
    run(whole, first, range(stop))
    other = model(torch.channels_last)
    second = prune(other)
    other.load_state_dict(whole.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(whole, first, range(stop, 30))
    run(other, second, range(stop, 30))
    assert torch.equal(whole.weight, other.weight)


def test_a_state_that_does_not_fit_is_refused() -> None:
    small, large = nn.Linear(64, 64, bias=False), nn.Linear(150, 150, bias=False)
    made = {"sparsity": 0.5, "end_step": 1, "update_interval": 1}
    optimizer = AdamWPrune(small.parameters(), **made)
    small.weight.grad = torch.randn_like(small.weight)
    optimizer.step()
    with pytest.raises(ValueError, match=r"does not fit a weight of shape \(150, 150\)"):
        AdamWPrune(large.parameters(), **made).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("build", [AdamWPrune, AdamWAdv, AdamWSpam])
def test_a_copied_or_pickled_optimizer_goes_on(build: type[torch.optim.Optimizer]) -> None:
    model = net()
    optimizer = build(model.parameters())
    run(model, optimizer, range(3))
    for other, copied in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        run(other, copied, range(3, 6))
    run(model, optimizer, range(3, 6))
    assert_equal(model, other)


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
def test_a_model_that_changes_its_memory_order_keeps_its_pruned_weights(mode: str) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(4, 8, 3, bias=False)
    optimizer = prune(model, sparsity=0.5, mode=mode)
    for steps, layout in ((range(9), torch.channels_last), (range(9, 25), torch.contiguous_format)):
        run(model, optimizer, steps)
        model.to(memory_format=layout)
    run(model, optimizer, range(25, 30))
    assert int((model.weight == 0).sum()) == 144
    assert optimizer.sparsity() == 0.5


def test_a_state_of_another_optimizer_or_mode_is_refused_before_anything_is_loaded() -> None:
    model = net()
    optimizer, other = prune(model), prune(model, mode="lean")
    run(model, other, range(3))
    for state, message in (
        (torch.optim.AdamW(model.parameters(), lr=7.0).state_dict(), "not a state_dict of AdamWPrune"),
        (other.state_dict(), "mode lean does not go on in mode gradual"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        assert not any(optimizer.state.values()) and optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
def test_a_mask_update_finds_weights_in_a_new_memory_order_that_have_no_gradient_yet(mode: str) -> None:
    models = []
    for later in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.Conv2d(8, 4, 3, bias=False))
        optimizer = prune(model, sparsity=0.5, mode=mode, foreach=False)
        run(model, optimizer, range(9))
        model.to(memory_format=later)
        for step in range(9, 12):  # an update after the last of them
            set_gradients(model, step)
            model[0].weight.grad = None
            optimizer.step()
        models.append(model)
    for first, second in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(first == 0, second == 0)
        torch.testing.assert_close(first, second)
