from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks
from tests.helpers.small_nets import assert_equal, net, prune, run, set_gradients


@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("maximize", [False, True])
def test_sparsity_zero_is_torch_adamw_bit_for_bit(way: dict[str, bool], maximize: bool) -> None:
    ours, theirs = net(), net()
    run(ours, AdamWPrune(ours.parameters(), lr=0.01, weight_decay=0.1, maximize=maximize, **way), range(30))
    run(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, maximize=maximize, **way), range(30))
    assert_equal(ours, theirs)


def masked_adamw(model: nn.Module, reference: nn.Module, optimizer: AdamWPrune, steps: int, foreach: bool) -> None:
    """Step a dense AdamW beside AdamWPrune, masking it with the same bits, and compare after every step."""
    group = optimizer.param_groups[0]
    dense = torch.optim.AdamW(
        reference.parameters(), group["lr"], group["betas"], group["eps"], group["weight_decay"], foreach=foreach
    )
    for step in range(steps):
        set_gradients(model, step)
        set_gradients(reference, step)
        optimizer.step()
        dense.step()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            state = optimizer.state[ours]
            if "mask" in state:
                masks.zero_pruned(theirs.data, state["mask"])
                alive = masks.unpack(state["mask"], 0, ours.numel())
                assert torch.equal(state["exp_avg_sq"], masks.flat(dense.state[theirs]["exp_avg_sq"])[alive])
            assert torch.equal(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=4),
    sparsity=st.floats(0.05, 0.95),
    weight_decay=st.sampled_from([0.0, 0.1]),
    criterion=st.sampled_from(["fisher", "first_order", "movement", "hybrid"]),
    ranking=st.sampled_from(["global", "layer_adaptive", "uniform", "erk"]),
    foreach=st.booleans(),
)
def test_a_compact_step_is_the_masked_dense_step_bit_for_bit(
    sizes: list[int], sparsity: float, weight_decay: float, criterion: str, ranking: str, foreach: bool
) -> None:
    model = net(tuple(sizes))
    try:
        optimizer = prune(
            model, sparsity=sparsity, weight_decay=weight_decay, criterion=criterion, ranking=ranking, foreach=foreach
        )
    except ValueError as error:
        assert "min_density" in str(error)  # layers so small that their one survivor is too much
        return
    masked_adamw(model, copy.deepcopy(model), optimizer, 26, foreach)
    size = sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)
    zeros = sum(int((weight == 0).sum()) for weight in model.parameters() if weight.dim() == 2)
    assert zeros == round(sparsity * size)
    assert optimizer.sparsity() == pytest.approx(zeros / size)


def test_layers_of_several_slices_step_exactly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "SLICE", 64)
    model = net((30, 20, 7))
    masked_adamw(model, copy.deepcopy(model), prune(model), 26, foreach=False)


def test_channels_last_convolutions_step_exactly_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
    masked_adamw(model, copy.deepcopy(model), prune(model), 26, foreach=False)


def test_pruned_weights_are_exactly_zero_after_every_step_and_never_return() -> None:
    model = net()
    optimizer = prune(model)
    gone = [torch.zeros_like(weight, dtype=torch.bool) for weight in model.parameters()]
    for step in range(30):
        run(model, optimizer, range(step, step + 1))
        for weight, before in zip(model.parameters(), gone, strict=True):
            assert weight[before].eq(0).all()
            if weight.dim() == 2:
                before |= weight == 0


@given(
    sparsity=st.floats(0.0, 0.95),
    interval=st.integers(1, 4),
    ranking=st.sampled_from(["global", "layer_adaptive", "uniform", "erk"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_without_regrowth_the_pruned_set_only_grows_to_its_exact_size_and_another_update_changes_nothing(
    sparsity: float, interval: int, ranking: str, seed: int
) -> None:
    torch.manual_seed(seed)
    weights = [nn.Parameter(torch.randn(7, 9)), nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(1, 1))]
    groups = [{"params": weights, "prunable": True}]  # also the one of a single weight
    optimizer = AdamWPrune(groups, sparsity=sparsity, end_step=8, update_interval=interval, ranking=ranking)
    gone = [torch.zeros_like(weight, dtype=torch.bool) for weight in weights]
    for _ in range(10):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
        now = [weight.detach() == 0 for weight in weights]
        assert all((before <= after).all() for before, after in zip(gone, now, strict=True))
        gone = now
    assert sum(int(part.sum()) for part in gone) == round(sparsity * 79)
    if sparsity:
        optimizer.update_masks()
    assert all(torch.equal(part, weight == 0) for part, weight in zip(gone, weights, strict=True))


@pytest.mark.parametrize(("mode", "regrowth"), [("gradual", 0.1), ("lean", 0.0), ("dynamic", 0.1)])
def test_a_frozen_layer_is_left_as_it_is_and_not_counted(mode: str, regrowth: float) -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(10, 10)), nn.Parameter(torch.randn(6, 10), requires_grad=False)]
    before = weights[1].clone()
    optimizer = AdamWPrune(weights, sparsity=0.5, end_step=5, update_interval=1, mode=mode, regrowth=regrowth)
    for _ in range(8):
        weights[0].grad = torch.randn(10, 10)
        optimizer.step()
    assert torch.equal(weights[1], before)
    assert int((weights[0] == 0).sum()) == 50 and optimizer.sparsity() == 0.5


def test_state_is_eight_bytes_a_survivor_and_one_bit_a_weight() -> None:
    model = net((64, 128, 64))
    optimizer = prune(model, sparsity=0.9)
    run(model, optimizer, range(2))
    weights, others = 2 * 64 * 128, 128 + 64
    steps = 4 * 4  # one float32 step count a tensor
    assert optimizer.memory_bytes() == {"optimizer_state": 8 * (weights + others) + steps, "pruning_state": 0}
    before = sum(optimizer.memory_bytes().values())
    for step in range(2, 24):
        run(model, optimizer, range(step, step + 1))
        now = sum(optimizer.memory_bytes().values())
        assert now <= before + weights // 8  # the mask comes once, states only go
        before = now
    survivors = weights - round(0.9 * weights)
    expected = {"optimizer_state": 8 * (survivors + others) + steps, "pruning_state": weights // 8}
    assert optimizer.memory_bytes() == expected


def test_nothing_else_is_kept_per_weight() -> None:
    model = net((64, 128, 64))
    optimizer = prune(model)
    run(model, optimizer, range(25))
    for weight in model.parameters():
        tensors = {name for name, value in optimizer.state[weight].items() if isinstance(value, torch.Tensor)}
        assert tensors <= {"step", "exp_avg", "exp_avg_sq", "mask"}
        assert len(optimizer.state[weight].get("kept", [])) <= 1  # one number for up to 262,144 weights


def test_dynamic_mode_is_sparse_from_the_first_step_and_stays_within_its_bound() -> None:
    model = net((64, 128, 64))
    optimizer = prune(model, mode="dynamic", regrowth=0.3, sparsity=0.9)
    weights = 2 * 64 * 128
    changed = 0
    before = None
    for step in range(25):
        run(model, optimizer, range(step, step + 1))
        survivors = weights - round(0.9 * weights)
        assert optimizer.memory_bytes()["optimizer_state"] == 8 * (survivors + 192) + 16
        assert optimizer.sparsity() == round(0.9 * weights) / weights
        bits = torch.cat([state["mask"] for state in optimizer.state.values() if "mask" in state])
        changed += before is not None and not torch.equal(bits, before)
        before = bits.clone()
    assert changed == 5  # updates at 5, 8, 11, 14, 17; at 20 the share of exchanged weights has come down to none


def test_a_regrown_weight_takes_first_steps_of_ordinary_size() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 8, bias=False)
    optimizer = prune(model, regrowth=0.5, mode="dynamic", sparsity=0.5, weight_decay=0.0)
    run(model, optimizer, range(5))
    back = torch.zeros(8, 8, dtype=torch.bool)
    dead = model.weight == 0
    for step in range(5, 9):
        run(model, optimizer, range(step, step + 1))
        back = dead & (model.weight != 0)
        if back.any():
            break
        dead = model.weight == 0
    assert back.any()
    assert model.weight[back].abs().max() <= 0.011  # one learning rate
