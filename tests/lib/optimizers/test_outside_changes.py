"""What the mask says is zero is zero, whoever writes to the weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lib.optimizers import AdamWPrune
from tests.helpers.small_nets import net, prune, run

MODES: list[dict[str, Any]] = [{}, {"fused": True}, {"mode": "lean"}, {"mode": "dynamic", "regrowth": 0.3}]
WEIGHTS = 13 * 16 + 16 * 10 + 10 * 3


def zeros(model: nn.Module) -> int:
    return sum(int((weight == 0).sum()) for weight in model.parameters() if weight.dim() == 2)


def copy_into(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight.copy_(torch.ones(16, 13))  # type: ignore[index, union-attr, operator]


def replace_data(model: nn.Module) -> None:
    model[0].weight.data = torch.ones(16, 13)  # type: ignore[index, union-attr, operator]


def load_another(model: nn.Module) -> None:
    torch.manual_seed(1)
    model.load_state_dict({name: torch.randn_like(value) for name, value in model.state_dict().items()})


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("change", [copy_into, replace_data, load_another])
def test_pruned_weights_set_from_outside_are_zero_again_after_the_next_step(
    change: Callable[[nn.Module], None], mode: dict[str, Any]
) -> None:
    model = net()
    optimizer = AdamWPrune(model.named_parameters(), lr=0.01, sparsity=0.7, end_step=6, update_interval=2, **mode)
    run(model, optimizer, range(8))
    change(model)
    with pytest.warns(UserWarning, match=r"pruned weights of tensor 0\.weight had been set from outside"):
        run(model, optimizer, range(8, 9))
    assert zeros(model) == round(0.7 * WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, optimizer, range(9, 12))


def test_the_weights_are_looked_at_when_the_sparsity_is_asked_for_with_a_check() -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(22))
    with torch.no_grad():
        model[0].weight.fill_(1.0)  # type: ignore[union-attr, operator]
    assert zeros(model) < round(0.8 * WEIGHTS)
    with pytest.warns(UserWarning, match=r"a tensor of shape \(16, 13\)"):
        assert optimizer.sparsity(check=True) == pytest.approx(0.8, abs=0.01)
    assert zeros(model) == round(0.8 * WEIGHTS)


def test_a_state_loaded_without_its_weights_is_noticed_at_the_first_step() -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(22))
    other = net()
    fresh = prune(other)
    fresh.load_state_dict(optimizer.state_dict())
    with pytest.warns(UserWarning, match="set from outside"):
        run(other, fresh, range(22, 23))
    assert zeros(other) == round(0.8 * WEIGHTS)


def test_an_undisturbed_training_and_its_resumption_warn_of_nothing() -> None:
    model = net()
    optimizer = prune(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, optimizer, range(25))
        copied = copy.deepcopy(model)
        resumed = prune(copied)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(copied, resumed, range(25, 28))


def named(model: nn.Module, order: tuple[str, ...]) -> AdamWPrune:
    parameters = dict(model.named_parameters())
    return AdamWPrune([(name, parameters[name]) for name in order], sparsity=0.5, end_step=4, update_interval=1)


def test_tensors_given_in_another_order_than_the_states_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    optimizer = named(model, ("0.weight", "1.weight"))
    run(model, optimizer, range(6))
    fresh = named(copy.deepcopy(model), ("1.weight", "0.weight"))
    with pytest.raises(ValueError, match=r"state of tensor 0\.weight.*given tensor 1\.weight"):
        fresh.load_state_dict(optimizer.state_dict())
    assert fresh.steps == 0 and not fresh.state


def test_names_that_differ_by_a_wrapper_alone_are_the_same() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    optimizer = named(model, ("0.weight", "1.weight"))
    run(model, optimizer, range(6))
    wrapped = [(f"module._orig_mod.{name}", weight) for name, weight in copy.deepcopy(model).named_parameters()]
    fresh = AdamWPrune(wrapped, sparsity=0.5, end_step=4)
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.steps == 6


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("shape", [(16, 12), (20, 20)])
def test_a_tensor_replaced_by_one_of_another_shape_is_refused(shape: tuple[int, ...], mode: dict[str, Any]) -> None:
    model = net()
    optimizer = AdamWPrune(model.named_parameters(), sparsity=0.7, end_step=6, update_interval=2, **mode)
    run(model, optimizer, range(8))
    model[0].weight.data = torch.ones(shape)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match=r"0\.weight"):
        run(model, optimizer, range(8, 9))


def test_a_convolution_turned_into_a_format_that_cannot_be_pruned_is_named() -> None:
    model = nn.Sequential(nn.Conv3d(2, 4, 3))
    optimizer = AdamWPrune(model.named_parameters(), sparsity=0.5, end_step=4, update_interval=2)
    run(model, optimizer, range(3))
    model.to(memory_format=torch.channels_last_3d)
    with pytest.raises(ValueError, match=r"^tensor 0\.weight has strides"):
        run(model, optimizer, range(3, 4))
