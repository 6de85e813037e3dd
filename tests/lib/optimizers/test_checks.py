"""What AdamWPrune does not take is refused at once, in one sentence that names it; what AdamW takes, it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import CubicSchedule
from lib.pruning.score_histogram import NotFinite
from tests.helpers.small_nets import assert_equal, net, run

MODES = ("gradual", "lean", "dynamic")
PRUNED: dict[str, Any] = {"sparsity": 0.5, "end_step": 6, "update_interval": 2}


def unprunable() -> list[Any]:
    return [
        pytest.param(torch.randn(4, 6, dtype=torch.cfloat), "is torch.complex64", id="complex"),
        pytest.param(torch.tensor(1.0), "has no dimensions", id="number"),
        pytest.param(torch.randn(6, 4).t(), r"has strides \(1, 4\)", id="transposed"),
        pytest.param(torch.randn(12)[::2], r"has strides \(2,\)", id="every other"),
        pytest.param(torch.randn(1, 4).expand(6, 4), r"has strides \(0, 1\)", id="expanded"),
        pytest.param(torch.randn(2, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d), "has strides", id="3d"),
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("values", "why"), unprunable())
def test_a_tensor_that_cannot_be_pruned_is_refused_by_name(values: torch.Tensor, why: str, mode: str) -> None:
    weight, other = nn.Parameter(values), nn.Parameter(torch.randn(5, 5))
    group = {"params": [("odd", weight)], "prunable": True}
    with pytest.raises(ValueError, match=rf"^tensor odd {why}.* prunable=False$"):
        AdamWPrune([group], mode=mode, **PRUNED)
    optimizer = AdamWPrune([("even", other)], mode=mode, **PRUNED)
    with pytest.raises(ValueError, match=rf"^tensor odd {why}"):
        optimizer.add_param_group({"params": [("odd", weight)], "prunable": True})
    assert len(optimizer.param_groups) == 1  # it goes on without the group
    other.grad = torch.randn(5, 5)
    optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("values", [part.values[0] for part in unprunable() if part.id != "expanded"])
def test_where_nothing_is_pruned_such_tensors_are_trained_as_by_adamw(values: torch.Tensor, foreach: bool) -> None:
    ours, theirs, beside = (nn.Parameter(values.clone()) for _ in range(3))
    pair = nn.Parameter(torch.randn(5, 5))
    optimizers = [
        AdamWPrune([{"params": [ours]}], foreach=foreach),
        torch.optim.AdamW([theirs], foreach=foreach),
        AdamWPrune([{"params": [beside], "prunable": False}, {"params": [pair]}], foreach=foreach, **PRUNED),
    ]
    for _ in range(8):
        ours.grad = torch.randn_like(values)
        theirs.grad, beside.grad, pair.grad = ours.grad.clone(), ours.grad.clone(), torch.randn(5, 5)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs) and torch.equal(beside, theirs)


def test_a_frozen_tensor_of_any_kind_may_stand_in_a_group() -> None:
    packed = nn.Parameter(torch.ones(4, 4, dtype=torch.uint8), requires_grad=False)
    weight = nn.Parameter(torch.randn(4, 4))
    optimizer = AdamWPrune([packed, weight], fused=True, **PRUNED)
    for _ in range(8):
        weight.grad = torch.randn(4, 4)
        optimizer.step()
    assert optimizer.sparsity() == 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", [{}, {"foreach": True}, {"fused": True}])
def test_a_sparse_gradient_is_refused_in_the_first_step(mode: str, way: dict[str, bool]) -> None:
    table = nn.Embedding(20, 4, sparse=True)
    optimizer = AdamWPrune(table.named_parameters(), mode=mode, **PRUNED, **way)
    table(torch.tensor([1, 3])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients, but that of tensor weight is one"):
        optimizer.step()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"fused": True, "foreach": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together."),
        ({"lr": torch.tensor(0.1), "foreach": True}, ValueError, "lr as a Tensor is not supported for foreach=True"),
        ({"lr": torch.tensor([0.1, 0.2])}, ValueError, "a lr that is a Tensor must have 1 element, got 2"),
        ({"betas": (torch.tensor(0.9), torch.tensor(0.99))}, ValueError, r"betas\[0\] must be a number"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_as_by_adamw(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AdamWPrune(net().parameters(), **settings)


def test_fused_takes_floating_point_tensors_only_as_adamw_does() -> None:
    with pytest.raises(RuntimeError, match=r"fused=True needs floating .* tensor w is torch\.complex64"):
        AdamWPrune([("w", nn.Parameter(torch.randn(3, dtype=torch.cfloat)))], fused=True)


@pytest.mark.parametrize("way", [{}, {"fused": True}])
def test_a_learning_rate_that_is_a_tensor_is_followed(way: dict[str, bool]) -> None:
    models = net(), net()
    rates = torch.tensor(0.01), 0.01
    optimizers = [AdamWPrune(m.parameters(), lr=lr, **PRUNED, **way) for m, lr in zip(models, rates, strict=True)]
    for step in range(8):
        for model, optimizer in zip(models, optimizers, strict=True):
            run(model, optimizer, range(step, step + 1))
            optimizer.param_groups[0]["lr"] *= 0.5
    for ours, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("mode", MODES)
def test_a_tensor_given_twice_is_pruned_once(mode: str) -> None:
    torch.manual_seed(0)
    weight, other = nn.Parameter(torch.randn(10, 10)), nn.Parameter(torch.randn(6, 10))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = AdamWPrune([weight, other, weight], mode=mode, **PRUNED)
    for _ in range(8):
        weight.grad, other.grad = torch.randn(10, 10), torch.randn(6, 10)
        optimizer.step()
    assert int((weight == 0).sum() + (other == 0).sum()) == 80


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_a_gradient_in_another_memory_order_than_its_weight_is_taken_rightly(sparsity: float) -> None:
    models = net(), net()
    optimizers = [AdamWPrune(m.parameters(), fused=True, **(PRUNED | {"sparsity": sparsity})) for m in models]
    for step in range(8):
        for turned, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            generator = torch.Generator().manual_seed(step)
            for weight in model.parameters():
                slope = torch.randn(weight.shape, generator=generator)
                weight.grad = slope.t().contiguous().t() if turned and slope.dim() == 2 else slope
            optimizer.step()
    assert_equal(*models)


def test_a_ready_made_schedule_is_used_as_it_is_and_excludes_the_numbers_it_is_made_of() -> None:
    schedule = CubicSchedule(0.5, 2, 9, 3)
    assert AdamWPrune(net().parameters(), schedule=schedule).schedule is schedule
    with pytest.raises(ValueError, match="either schedule or sparsity"):
        AdamWPrune(net().parameters(), sparsity=0.5, end_step=9, schedule=schedule)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", -1.0, r"lr must be in \[0, inf\), got -1.0"),
        ("betas", (2, 2), r"betas\[0\] must be in \[0, 1\), got 2"),
        ("eps", float("inf"), r"eps must be in \[0, inf\), got inf"),
        ("prune", False, "key 'prune'; did you mean 'prunable'"),
        ("prunable", "yes", "prunable must be True, False or None, got 'yes'"),
    ],
)
def test_the_settings_of_a_group_are_checked_as_those_of_the_optimizer(key: str, value: Any, message: str) -> None:
    group = {"params": [nn.Parameter(torch.randn(4, 4))], key: value}
    with pytest.raises(ValueError, match=message):
        AdamWPrune([group], **PRUNED)
    optimizer = AdamWPrune(net().parameters(), **PRUNED)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("sparsity", [-1, "a", 1.0, float("nan")])
def test_a_sparsity_out_of_range_is_named_and_not_the_step_at_which_it_ends(sparsity: Any) -> None:
    with pytest.raises(ValueError, match=r"^sparsity must be in \[0, 1\), got"):
        AdamWPrune(net().parameters(), sparsity=sparsity)


def test_its_text_tells_mode_schedule_and_sparsity() -> None:
    model = net()
    optimizer = AdamWPrune(model.parameters(), mode="lean", **PRUNED)
    run(model, optimizer, range(7))
    text = repr(optimizer)
    assert "lean, sparsity 0.5 from step 0 to 6, updated every 2 steps; 0.5 pruned at step 7" in text
    assert "Parameter Group 0" in text


def test_scores_that_are_all_zero_are_told_when_they_decide() -> None:
    weight = nn.Parameter(torch.randn(6, 6))
    optimizer = AdamWPrune([weight], criterion="first_order", **PRUNED)
    with pytest.warns(UserWarning, match="all scores are zero at step 2"):
        for _ in range(2):
            weight.grad = torch.zeros(6, 6)
            optimizer.step()


def test_a_step_whose_update_finds_no_number_is_not_counted() -> None:
    weight = nn.Parameter(torch.randn(6, 6))
    optimizer = AdamWPrune([weight], **PRUNED)
    weight.grad = torch.randn(6, 6)
    optimizer.step()
    weight.grad = torch.full((6, 6), torch.nan)
    with pytest.raises(NotFinite):
        optimizer.step()
    assert optimizer.steps == 1
