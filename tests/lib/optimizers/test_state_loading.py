"""A state_dict that cannot be right is refused before it is loaded: compiled code would trust it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from lib.optimizers.adamwprune import AdamWPrune
from tests.helpers.small_nets import assert_equal, net, prune, run

Change = Callable[[dict[str, Any]], object]


def last_bit(state: dict[str, Any]) -> None:
    state["mask"][-1] |= 128  # 13 x 13 weights: seven bits of the last byte stand for none


def one_bit(state: dict[str, Any]) -> None:
    state["mask"][0] ^= 1


def refused(mode: str, steps: int, change: Change, message: str) -> None:
    model = net((13, 13, 4))
    saved_from = prune(model, mode=mode, sparsity=0.5)
    run(model, saved_from, range(steps))
    saved = copy.deepcopy(saved_from.state_dict())
    change(saved["state"][0])
    for named in (True, False):
        other = net((13, 13, 4))
        made = {"sparsity": 0.5, "start_step": 2, "end_step": 20, "update_interval": 3, "mode": mode}
        optimizer = AdamWPrune(other.named_parameters() if named else other.parameters(), lr=0.7, fused=True, **made)
        who = "tensor 0.weight" if named else "a tensor of shape (13, 13)"
        with pytest.raises(ValueError) as caught:
            optimizer.load_state_dict(saved)
        assert str(caught.value) == f"the state of {who} does not fit a weight of shape (13, 13): {message}"
        assert not any(optimizer.state.values()) and optimizer.steps == 0
        assert optimizer.param_groups[0]["lr"] == 0.7
        run(other, optimizer, range(3))


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (last_bit, "its mask has bits set past the last weight"),
        (lambda state: state.update(mask=state["mask"][:-1]), "its mask has 21 bytes, not 22"),
        (lambda state: state.update(mask=state["mask"] + 0.5), "its mask is not made of bytes"),
        (lambda state: state.update(channels_last=True), "it does not tell the memory order"),
        (lambda state: state.pop("channels_last"), "it does not tell the memory order"),
        (lambda state: state.pop("step"), "it has no step count"),
    ],
)
def test_a_mask_that_cannot_be_right_is_refused_by_the_tensors_name(mode: str, change: Change, message: str) -> None:
    refused(mode, 23, change, message)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_moments_that_are_not_as_many_as_the_mask_keeps_are_refused(name: str) -> None:
    def shorten(state: dict[str, Any]) -> None:
        state[name] = state[name][:-1]

    kept = survivors()
    refused("gradual", 23, shorten, f"it should hold {name} of shape ({kept},), not ({kept - 1},)")
    refused("gradual", 23, lambda state: state.pop(name), f"it should hold {name} of shape ({kept},), not None")
    refused("gradual", 1, shorten, f"it should hold {name} of shape (13, 13), not (12, 13)")


def test_a_mask_that_keeps_another_number_than_there_are_moments_is_refused() -> None:
    kept = survivors()
    bit = int(half_pruned()[1]["mask"][0]) & 1
    found = kept - 1 if bit else kept + 1
    refused("gradual", 23, one_bit, f"it should hold exp_avg of shape ({found},), not ({kept},)")


def test_rows_that_are_too_few_are_refused() -> None:
    def shorten(state: dict[str, Any]) -> None:
        state["row_avg_sq"] = state["row_avg_sq"][:-1]

    refused("lean", 4, shorten, "it has 12 rows, not 13")


def half_pruned() -> tuple[nn.Module, dict[str, Any]]:
    model = net((13, 13, 4))
    optimizer = prune(model, sparsity=0.5)
    run(model, optimizer, range(23))
    return model, optimizer.state[model[0].weight]


def survivors() -> int:
    return half_pruned()[1]["exp_avg"].numel()


def test_numbers_per_slice_are_counted_anew_and_moments_may_be_views() -> None:
    model = net((13, 13, 4))
    first = prune(model, fused=True)
    run(model, first, range(23))
    saved = copy.deepcopy(first.state_dict())
    for state in saved["state"].values():
        if "mask" in state:
            state["kept"] = [3, 5]
            state["exp_avg"] = state["exp_avg"].repeat_interleave(2)[::2]
    other = copy.deepcopy(model)
    second = prune(other, fused=True)
    second.load_state_dict(saved)
    run(model, first, range(23, 26))
    run(other, second, range(23, 26))
    assert_equal(model, other)


@pytest.mark.parametrize("sparsity", [0.7, 0.9])
@pytest.mark.parametrize("way", [{}, {"fused": True}])
@pytest.mark.parametrize("mode", ["gradual", "lean"])
def test_a_ramp_that_has_ended_is_followed_by_a_longer_one(mode: str, way: dict[str, bool], sparsity: float) -> None:
    model = net()
    first = prune(model, mode=mode, sparsity=0.7, **way)
    run(model, first, range(22))
    gone = [weight == 0 for weight in model.parameters() if weight.dim() == 2]
    longer = prune(model, mode=mode, end_step=40, sparsity=sparsity, **way)
    longer.load_state_dict(first.state_dict())
    assert longer.sparsity() == first.sparsity()
    for step in range(22, 42):
        run(model, longer, range(step, step + 1))
        weights = [weight for weight in model.parameters() if weight.dim() == 2]
        assert all((weight[zeros] == 0).all() for weight, zeros in zip(weights, gone, strict=True))
    assert longer.sparsity() == pytest.approx(sparsity, abs=0.002)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros == round(sparsity * sum(weight.numel() for weight in weights))
    assert not any("row_avg_sq" in state for state in longer.state.values())


def test_states_of_tensors_that_are_not_there_are_kept_as_by_every_optimizer() -> None:
    model = net()
    first = prune(model)
    run(model, first, range(5))
    saved = first.state_dict()
    saved["state"][99] = {"step": 1}
    prune(model).load_state_dict(saved)
