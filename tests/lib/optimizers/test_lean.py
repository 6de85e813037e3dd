"""AdamWPrune's lean mode: dense weights on a ramp, moments for those only that will survive."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks
from tests.helpers.small_nets import assert_equal, net, prune, run, set_gradients


def lean(model: nn.Module, **settings: Any) -> AdamWPrune:
    return prune(model, mode="lean", **settings)


def zeros(model: nn.Module) -> int:
    return sum(int((weight == 0).sum()) for weight in model.parameters() if weight.dim() == 2)


@pytest.mark.parametrize("way", [{"foreach": False}, {"fused": True}])
def test_states_are_as_small_at_every_step_as_at_the_end(way: dict[str, bool]) -> None:
    model = net((64, 128, 64))
    optimizer = lean(model, sparsity=0.9, start_step=6, **way)
    weights = 2 * 64 * 128
    survivors = weights - round(0.9 * weights)
    rows = 4 * (128 + 64)  # one second moment each, until the ramp ends
    for step in range(25):
        run(model, optimizer, range(step, step + 1))
        held = 8 * (survivors + 192) + 16 + (rows if step + 1 < 20 else 0)
        expected = {"optimizer_state": held, "pruning_state": weights // 8}
        assert optimizer.memory_bytes() == expected
        tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        assert sum(t.numel() * t.element_size() for t in tensors) == sum(expected.values())  # and nothing beside


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=4),
    sparsity=st.floats(0.05, 0.9),
    start_step=st.integers(0, 7),
    interval=st.integers(1, 5),
    ranking=st.sampled_from(["global", "layer_adaptive", "uniform", "erk"]),
    fused=st.booleans(),
)
def test_the_ramp_is_exact_and_what_is_pruned_stays_pruned(
    sizes: list[int], sparsity: float, start_step: int, interval: int, ranking: str, fused: bool
) -> None:
    model = net(tuple(sizes))
    try:
        optimizer = lean(
            model, sparsity=sparsity, start_step=start_step, update_interval=interval, ranking=ranking, fused=fused
        )
    except ValueError as error:
        assert "min_density" in str(error)
        return
    size = sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)
    gone = [torch.zeros_like(weight, dtype=torch.bool) for weight in model.parameters()]
    expected = 0
    for step in range(26):
        run(model, optimizer, range(step, step + 1))
        if optimizer.schedule.is_update(step + 1):
            expected = round(optimizer.schedule.sparsity(step + 1) * size)
        assert zeros(model) == expected
        assert optimizer.sparsity() == pytest.approx(expected / size)
        for weight, before in zip(model.parameters(), gone, strict=True):
            assert weight[before].eq(0).all()
            if weight.dim() == 2:
                before |= weight == 0
    assert expected == round(sparsity * size)


def test_weights_without_moments_take_gradient_steps_scaled_by_their_rows() -> None:
    weight = nn.Parameter(torch.tensor([[4.0, -1.0, 2.0, 0.5]]))
    optimizer = AdamWPrune(
        [{"params": [weight], "prunable": True}],
        lr=0.1,
        weight_decay=0.5,
        sparsity=0.5,
        start_step=10,
        end_step=20,
        update_interval=5,
        mode="lean",
    )
    weight.grad = torch.tensor([[1.0, -1.0, 3.0, 5.0]])  # mean square 9
    optimizer.step()
    # 4 and 2 hold moments, so that Adam's first step moves them by 0.1; the others move by 0.1 g / 3, 0.1 at most
    assert masks.unpack(optimizer.state[weight]["mask"], 0, 4).tolist() == [True, False, True, False]
    decayed = torch.tensor([[4.0, -1.0, 2.0, 0.5]]) * 0.95
    torch.testing.assert_close(weight.data, decayed - torch.tensor([[0.1, -0.1 / 3, 0.1, 0.1]]))


def test_moments_go_to_the_weights_that_matter_most_and_start_at_the_scale_of_their_row() -> None:
    weight = nn.Parameter(torch.tensor([[4.0, 3.0, 0.1, 0.2]]))
    optimizer = AdamWPrune(
        [{"params": [weight], "prunable": True}],
        lr=1.0,
        weight_decay=0.0,
        sparsity=0.5,
        start_step=1,
        end_step=20,
        update_interval=1,
        mode="lean",
    )
    weight.grad = torch.tensor([[8.0, 0.0, -8.0, 0.0]])
    optimizer.step()  # 4 becomes 3 and 3 stays, with second moments 64 and 0; 0.1 becomes 1.1, with its row's 32
    state = optimizer.state[weight]
    assert masks.unpack(state["mask"], 0, 4).tolist() == [True, False, True, False]
    assert state["exp_avg"].tolist() == pytest.approx([0.8, 0.0])  # the one that joined has no direction yet
    assert (state["exp_avg_sq"] / (1 - 0.999)).tolist() == pytest.approx([64.0, 32.0], rel=1e-4)


def test_a_layer_that_starts_at_zero_is_not_taken_for_pruned() -> None:
    model = net()
    nn.init.zeros_(model[2].weight)
    optimizer = lean(model, start_step=3)
    run(model, optimizer, range(2))
    assert model[2].weight.ne(0).all()
    assert optimizer.sparsity() == 0.0


@pytest.mark.parametrize("way", [{"foreach": False}, {"fused": True}])
def test_a_zero_that_nobody_pruned_is_alive_however_late_its_gradients_come(way: dict[str, bool]) -> None:
    dense, zero = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.zeros(64, 64))
    settings = {"sparsity": 0.5, "start_step": 2, "end_step": 400, "update_interval": 4, "ranking": "uniform"}
    optimizer = AdamWPrune([dense, zero], mode="lean", **settings, **way)
    for step in range(20):
        dense.grad = torch.randn(64, 64)
        zero.grad = None if step < 7 else torch.randn(64, 64)
        optimizer.step()
    asked = round(optimizer.schedule.sparsity(18) * 2 * 64 * 64)
    assert int((dense == 0).sum() + (zero == 0).sum()) == asked
    assert optimizer.sparsity() == asked / (2 * 64 * 64)


def test_budgets_by_shape_ask_no_layer_to_give_a_pruned_weight_back() -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((5, 4), (17, 5), (15, 28))]
    optimizer = AdamWPrune(
        weights, lr=0.05, sparsity=0.08418688253446124, start_step=3, end_step=22, update_interval=1, mode="lean",
        ranking="uniform",
    )  # fmt: skip
    for step in range(1, 25):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
        zero = sum(int((weight == 0).sum()) for weight in weights)
        assert zero == round(optimizer.schedule.sparsity(step) * 525)


@pytest.mark.parametrize("ranking", ["global", "layer_adaptive", "uniform", "erk"])
@pytest.mark.parametrize("frozen", [0, 2, 4])
def test_a_layer_frozen_on_the_ramp_leaves_the_others_on_theirs(ranking: str, frozen: int) -> None:
    model = net()
    optimizer = lean(model, sparsity=0.7, start_step=0, end_step=24, ranking=ranking)
    with torch.no_grad():
        model[0].weight.mul_(0.01)  # pruned first, where scores are compared among layers
    run(model, optimizer, range(10))
    model[frozen].weight.requires_grad_(False)
    gone = [layer.weight == 0 for layer in model[::2]]
    for step in range(10, 30):
        set_gradients(model, step)
        model[frozen].weight.grad = None
        optimizer.step()
    layers = [(layer.weight, before) for layer, before in zip(model[::2], gone, strict=True)]
    for weight, before in layers:
        assert weight[before].eq(0).all()
    rest = [(weight, before) for weight, before in layers if weight.requires_grad]
    already = sum(int(before.sum()) for _, before in rest)
    asked = round(0.7 * sum(weight.numel() for weight, _ in rest))
    assert sum(int((weight == 0).sum()) for weight, _ in rest) == max(asked, already)


def test_when_the_ramp_has_ended_pruned_weights_are_plain_zeros() -> None:
    model = net()
    optimizer = lean(model)
    run(model, optimizer, range(15))
    assert model[0].weight[model[0].weight == 0].signbit().all()
    run(model, optimizer, range(15, 25))
    assert not model[0].weight[model[0].weight == 0].signbit().any()


def test_after_the_ramp_it_is_the_masked_adamw_bit_for_bit() -> None:
    model = net()
    optimizer = lean(model, foreach=False, weight_decay=0.1)
    run(model, optimizer, range(20))
    reference = copy.deepcopy(model)
    dense = torch.optim.AdamW(reference.parameters(), 0.01, weight_decay=0.1, foreach=False)
    run(reference, dense, range(1))  # makes states
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            theirs.copy_(ours)
            state = optimizer.state[ours]
            alive = masks.unpack(state["mask"], 0, ours.numel()) if "mask" in state else torch.ones_like(ours) > 0
            for name in ("exp_avg", "exp_avg_sq"):
                dense.state[theirs][name].zero_()[alive.view_as(ours)] = state[name]
            dense.state[theirs]["step"].fill_(20)
    for step in range(20, 30):
        set_gradients(model, step)
        set_gradients(reference, step)
        optimizer.step()
        dense.step()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            if "mask" in optimizer.state[ours]:
                masks.zero_pruned(theirs.data, optimizer.state[ours]["mask"])
        assert_equal(model, reference)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compiled_steps_agree_with_torchs_operations(layout: torch.memory_format, monkeypatch: Any) -> None:
    monkeypatch.setattr(masks, "SLICE", 1 << 12)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 64, 3), nn.Conv2d(64, 40, 3)).to(memory_format=layout)
    other = copy.deepcopy(model)
    compiled = lean(model, maximize=True, weight_decay=0.1, fused=True)
    plain = lean(other, maximize=True, weight_decay=0.1, foreach=False)
    for steps in (range(12), range(12, 30)):
        run(model, compiled, steps)
        run(other, plain, steps)
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
            assert torch.equal(ours == 0, theirs == 0)


@pytest.mark.parametrize("stop", [0, 1, 9, 25])
def test_a_state_saved_contiguous_goes_on_in_a_channels_last_model(stop: int) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3)
    saved_from = lean(first)
    run(first, saved_from, range(stop))
    second = copy.deepcopy(first).to(memory_format=torch.channels_last)
    goes_on = lean(second)
    goes_on.load_state_dict(copy.deepcopy(saved_from.state_dict()))
    run(first, saved_from, range(stop, 30))
    run(second, goes_on, range(stop, 30))
    torch.testing.assert_close(first.weight, second.weight)  # not equal: rows are summed in another order
    assert torch.equal(first.weight == 0, second.weight == 0)


def test_a_layer_that_never_has_a_gradient_is_pruned_first() -> None:
    model = net()
    optimizer = lean(model, sparsity=0.5)
    for step in range(22):
        set_gradients(model, step)
        model[2].weight.grad = None
        optimizer.step()
    size = 13 * 16 + 16 * 10 + 10 * 3
    assert zeros(model) == round(0.5 * size)
    assert int((model[2].weight == 0).sum()) == 160 - 2  # its floor, a hundredth, is left


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"criterion": "movement"}, "criterion must be fisher in lean mode, got 'movement'"),
        ({"regrowth": 0.1}, r"regrowth must be 0 in lean mode, got 0.1"),
    ],
)
def test_what_lean_mode_cannot_do_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lean(net(), **wrong)


def test_a_tensor_that_joins_before_the_ramp_ends_is_pruned_with_the_others() -> None:
    model = net()
    model[2].weight.requires_grad_(False)
    late = nn.Parameter(torch.randn(10, 10))
    optimizer = lean(model, sparsity=0.5)
    for step in range(30):
        if step == 3:
            model[2].weight.requires_grad_(True)
        if step == 7:
            optimizer.add_param_group({"params": [late]})
        set_gradients(model, step)
        late.grad = torch.randn(10, 10)
        optimizer.step()
    assert zeros(model) + int((late == 0).sum()) == round(0.5 * (13 * 16 + 16 * 10 + 10 * 3 + 100))
    assert not any("row_avg_sq" in state for state in optimizer.state.values())


def test_a_ramp_whose_last_steps_round_to_the_end_goes_on_to_it() -> None:
    weight = nn.Parameter(torch.randn(8, 8))
    optimizer = AdamWPrune([weight], sparsity=0.875, end_step=1_000_001, update_interval=100, mode="lean")
    for steps in (0, *range(999_998, 1_000_003)):
        optimizer.steps = steps
        weight.grad = torch.randn(8, 8)
        optimizer.step()
    assert int((weight == 0).sum()) == 56


def test_gradients_that_are_no_numbers_do_not_reach_pruned_weights() -> None:
    for way in ({"foreach": False}, {"fused": True}):
        weight = nn.Parameter(torch.randn(4, 16))
        optimizer = AdamWPrune([weight], sparsity=0.5, end_step=20, update_interval=2, mode="lean", **way)
        for _ in range(6):
            weight.grad = torch.randn(4, 16)
            optimizer.step()
        gone = weight == 0
        assert gone.any()
        weight.grad[gone] = torch.inf
        optimizer.step()
        assert weight[gone].eq(0).all()
