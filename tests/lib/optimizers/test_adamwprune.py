from __future__ import annotations

import copy
import io
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.optimizers.adamwadv import AdamWAdv
from lib.optimizers.adamwprune import AdamWPrune
from lib.optimizers.adamwspam import AdamWSpam
from lib.pruning import masks


def net(sizes: tuple[int, ...] = (13, 16, 10, 3)) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers)


def set_gradients(model: nn.Module, step: int) -> None:
    """Random gradients, so that a reference model can be given the very same ones."""
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_gradients(model, step)
        optimizer.step()


def prune(model: nn.Module, **settings: Any) -> AdamWPrune:
    defaults: dict[str, Any] = {"lr": 0.01, "sparsity": 0.8, "start_step": 2, "end_step": 20, "update_interval": 3}
    return AdamWPrune(model.parameters(), **(defaults | settings))


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


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
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
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
    optimizer = AdamWPrune(weights, sparsity=sparsity, end_step=8, update_interval=interval, ranking=ranking)
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
        optimizer._update_masks()
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


def test_two_groups_may_differ_in_what_is_pruned() -> None:
    model = net()
    groups = [{"params": [model[0].weight], "prunable": False}, {"params": [model[2].weight, model[4].weight]}]
    optimizer = AdamWPrune(groups, sparsity=0.5, end_step=4, update_interval=1)
    run(model, optimizer, range(6))
    assert model[0].weight.ne(0).all()
    assert optimizer.sparsity() == 0.5
    assert len(optimizer.layer_densities()) == 2


def test_a_layer_without_gradients_is_left_out_of_the_count() -> None:
    model = net()
    optimizer = prune(model, sparsity=0.5, end_step=4)
    for step in range(6):
        set_gradients(model, step)
        model[2].weight.grad = None
        optimizer.step()
    assert model[2].weight.ne(0).all()
    rest = torch.cat([model[0].weight.view(-1), model[4].weight.view(-1)])
    assert int((rest == 0).sum()) == round(0.5 * rest.numel())


def test_a_gradient_that_is_not_finite_names_the_layer_at_the_next_update() -> None:
    model = net()
    optimizer = prune(model, end_step=4)
    run(model, optimizer, range(2))
    set_gradients(model, 3)
    model[2].weight.grad[0, 0] = float("nan")
    optimizer.step()
    with pytest.raises(ValueError, match=r"\(10, 16\).*NaN"):
        run(model, optimizer, range(4, 8))


def test_learning_rate_schedulers_and_the_closure_work() -> None:
    model = net()
    optimizer = prune(model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    inputs, targets = torch.randn(64, 13), torch.zeros(64, 3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    losses = []
    for _ in range(30):
        losses.append(optimizer.step(closure).item())
        scheduler.step()
    assert losses[-1] < losses[0]
    assert optimizer.param_groups[0]["lr"] < 1e-6


def test_a_skipped_grad_scaler_step_changes_nothing() -> None:
    model = net()
    optimizer = prune(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = copy.deepcopy(model)
    scaler.scale(model(torch.full((2, 13), float("inf"))).sum() * float("nan")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert_equal(model, before)
    assert optimizer.steps == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, r"lr must be in \[0, inf\]"),
        ({"lr": float("nan")}, "lr"),
        ({"betas": (1.0, 0.9)}, r"betas\[0\] must be in \[0, 1\)"),
        ({"eps": -1e-9}, "eps"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\)"),
        ({"end_step": None}, "end_step is needed"),
        ({"start_step": 30}, "end_step must be after start_step 30"),
        ({"update_interval": 0}, "update_interval"),
        ({"criterion": "fischer"}, "criterion must be one of fisher, first_order"),
        ({"ranking": "lamp"}, "ranking must be one of"),
        ({"mode": "static"}, "mode must be one of gradual, lean, dynamic"),
        ({"exponent": 1.5}, r"exponent must be in \[0, 1\]"),
        ({"regrowth": 0.6}, r"regrowth must be in \[0, 0.5\]"),
        ({"min_density": 0.5}, "min_density"),
    ],
)
def test_bad_arguments_are_named_with_their_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune(net(), **settings)


@pytest.mark.parametrize("mode", ["gradual", "lean"])
def test_a_score_that_is_no_number_is_reported_with_the_layers_name_where_one_was_given(mode: str) -> None:
    for named, message in ((True, "layer 2.weight: a score is NaN"), (False, r"layer 1 of shape \(10, 16\): a score")):
        model = net()
        parameters = model.named_parameters() if named else model.parameters()
        optimizer = AdamWPrune(parameters, sparsity=0.5, end_step=10, update_interval=1, mode=mode)
        set_gradients(model, 0)
        model[2].weight.grad[0, 0] = torch.nan
        with pytest.raises(ValueError, match=message):
            optimizer.step()


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
def test_nothing_to_prune_and_empty_tensors_are_no_error(mode: str) -> None:
    for shapes in ([(5,)], [(0, 5), (5, 0), (12, 12)]):
        weights = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        optimizer = AdamWPrune(weights, sparsity=0.5, end_step=4, update_interval=2, mode=mode)
        for _ in range(6):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            optimizer.step()
        assert optimizer.sparsity() == (0.5 if len(shapes) > 1 else 0.0)
