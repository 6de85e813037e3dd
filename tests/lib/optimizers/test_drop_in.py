"""AdamWPrune in somebody else's training loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lib.kernels.host import Host, use
from lib.optimizers.adamwprune import AdamWPrune
from tests.helpers.small_nets import assert_equal, net, prune, run, set_gradients


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
        ({"lr": -1.0}, r"lr must be in \[0, inf\)"),
        ({"lr": float("nan")}, "lr"),
        ({"betas": (1.0, 0.9)}, r"betas\[0\] must be in \[0, 1\)"),
        ({"eps": -1e-9}, "eps"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\)"),
        ({"end_step": None}, "end_step is needed"),
        ({"start_step": 30}, "end_step must be after start_step 30"),
        ({"end_step": 0.75 * 25}, "end_step must be a whole number, got 18.75"),
        ({"start_step": 0.5}, "start_step must be a whole number"),
        ({"update_interval": float("inf")}, "update_interval must be a whole number"),
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


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
@pytest.mark.parametrize("way", [{}, {"foreach": True}, {"fused": True}])
def test_defaults_of_the_process_for_new_tensors_do_not_matter(mode: str, way: dict[str, bool]) -> None:
    models = net(), net()
    run(models[0], prune(models[0], mode=mode, **way), range(22))
    optimizer, host = prune(models[1], mode=mode, **way), Host()  # a host that has no constants yet
    for step in range(22):
        set_gradients(models[1], step)
        try:
            torch.set_default_dtype(torch.float64)
            with torch.device("meta"), use(host):
                optimizer.step()
        finally:
            torch.set_default_dtype(torch.float32)
    assert_equal(*models)


@pytest.mark.parametrize("criterion", ["fisher", "first_order", "movement", "hybrid"])
@pytest.mark.parametrize("way", [{}, {"fused": True}])
def test_in_dynamic_mode_a_layer_may_wait_for_its_first_gradient(criterion: str, way: dict[str, bool]) -> None:
    model = net()
    optimizer = prune(model, mode="dynamic", regrowth=0.3, criterion=criterion, **way)
    for step in range(25):
        set_gradients(model, step)
        if step < 12:
            model[2].weight.grad = None
        optimizer.step()
    zero = sum(int((weight == 0).sum()) for weight in model.parameters() if weight.dim() == 2)
    assert zero == round(0.8 * (13 * 16 + 16 * 10 + 10 * 3))


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
@pytest.mark.parametrize("way", [{}, {"fused": True}])
def test_a_group_may_take_part_in_pruning_later(mode: str, way: dict[str, bool]) -> None:
    model = net()
    groups = [{"params": [model[0].weight, model[4].weight]}, {"params": [model[2].weight], "prunable": False}]
    optimizer = AdamWPrune(groups, sparsity=0.7, start_step=2, end_step=20, update_interval=3, mode=mode, **way)
    run(model, optimizer, range(10))
    assert model[2].weight.ne(0).all()
    optimizer.param_groups[1]["prunable"] = True
    run(model, optimizer, range(10, 25))
    zero = sum(int((model[layer].weight == 0).sum()) for layer in (0, 2, 4))
    assert zero == round(0.7 * (13 * 16 + 16 * 10 + 10 * 3))
    assert not any("row_avg_sq" in state for state in optimizer.state.values())
