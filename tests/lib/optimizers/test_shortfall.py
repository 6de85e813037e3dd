"""Another sparsity than was asked for comes with one warning: asked, reached, why."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from lib.optimizers import AdamWPrune
from tests.helpers.small_nets import net, prune, run


def test_a_layer_without_a_gradient_through_the_ramp_is_named_at_its_end() -> None:
    used, unused = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(30, 30))
    parameters = [("used", used), ("unused", unused)]
    optimizer = AdamWPrune(parameters, sparsity=0.7, end_step=5, update_interval=2, min_density=0.0)
    with pytest.warns(UserWarning) as caught:
        for _ in range(8):
            used.grad = torch.randn(4, 4)
            optimizer.step()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1
    reached = optimizer.sparsity()
    assert messages[0] == (
        f"sparsity 0.7 was asked for, but {reached:.4g} is reached at step 5: tensor unused had no gradient"
    )


def test_tensors_of_one_dimension_as_fsdp1_makes_them_are_told_before_the_first_step() -> None:
    weight = nn.Parameter(torch.randn(100))
    optimizer = AdamWPrune([weight], sparsity=0.5, end_step=4, update_interval=2)
    weight.grad = torch.randn(100)
    with pytest.warns(UserWarning, match=r"0\.5 was asked for, but no tensor is prunable.*FSDP1"):
        optimizer.step()


def test_a_tensor_that_joins_after_the_ramp_is_named() -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(21))
    with pytest.warns(UserWarning, match=r"a tensor of shape \(5, 5\) joined after the ramp had ended at step 20"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.randn(5, 5))]})


def test_an_interval_longer_than_the_ramp_is_told_at_once() -> None:
    with pytest.warns(UserWarning, match="update_interval 100 is longer than the ramp of 50 steps"):
        AdamWPrune(net().parameters(), sparsity=0.5, end_step=50, update_interval=100)


@pytest.mark.parametrize(("ramp", "interval"), [(1, 1), (5, 1), (50, 5), (1000, 100), (100_000, 100)])
def test_the_default_interval_fits_the_ramp(ramp: int, interval: int) -> None:
    optimizer = AdamWPrune(net().parameters(), sparsity=0.5, start_step=7, end_step=7 + ramp)
    assert optimizer.schedule.interval == interval


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_a_loaded_state_of_another_sparsity_is_told(sparsity: float) -> None:
    model = net()
    optimizer = prune(model, sparsity=0.7)
    run(model, optimizer, range(22))
    fresh = prune(copy.deepcopy(model), sparsity=sparsity)
    with pytest.warns(UserWarning, match=rf"sparsity {sparsity} was asked for, but 0\.70.* is reached at step 22"):
        fresh.load_state_dict(optimizer.state_dict())


def test_a_state_that_lost_its_masks_is_told() -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(22))
    saved = copy.deepcopy(optimizer.state_dict()) | {"state": {}}
    with pytest.warns(UserWarning, match=r"sparsity 0\.8 was asked for, but 0 is reached at step 22"):
        prune(copy.deepcopy(model)).load_state_dict(saved)


@pytest.mark.parametrize("mode", [{}, {"mode": "lean"}, {"mode": "dynamic", "regrowth": 0.3}], ids=str)
def test_what_reaches_its_sparsity_warns_of_nothing(mode: dict[str, Any]) -> None:
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, prune(model, **mode), range(25))
