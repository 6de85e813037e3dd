"""The position in the schedule goes wherever torch's own tools carry an optimizer's state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.optim import ZeroRedundancyOptimizer

from lib.optimizers import AdamWPrune
from tests.helpers.small_nets import assert_equal, net, prune, run

MODES: list[dict[str, Any]] = [{}, {"mode": "lean"}, {"mode": "dynamic", "regrowth": 0.3}]
STEPS = (8, 23)  # in the ramp, after it


def named(model: nn.Module, **settings: Any) -> AdamWPrune:
    made: dict[str, Any] = {"lr": 0.01, "sparsity": 0.8, "start_step": 2, "end_step": 20, "update_interval": 3}
    return AdamWPrune(model.named_parameters(), **(made | settings))


def assert_goes_on_alike(
    models: tuple[nn.Module, nn.Module], optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], steps: int
) -> None:
    for model, optimizer in zip(models, optimizers, strict=True):
        run(model, optimizer, range(steps, 28))
    assert_equal(*models)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_state_dicts_by_name_are_restored_into_a_fresh_optimizer(mode: dict[str, Any], steps: int) -> None:
    model = net()
    optimizer = prune(model, **mode)
    run(model, optimizer, range(steps))
    saved = copy.deepcopy(get_state_dict(model, optimizer))
    fresh_model = net()
    fresh = prune(fresh_model, **mode)
    get_state_dict(fresh_model, fresh)  # as the template of torch.distributed.checkpoint.load
    set_state_dict(fresh_model, fresh, model_state_dict=saved[0], optim_state_dict=saved[1])
    assert fresh.steps == steps
    assert_goes_on_alike((model, fresh_model), (optimizer, fresh), steps)


def test_without_pruning_states_round_trip_as_those_of_adamw() -> None:
    models = net(), net()
    optimizers = AdamWPrune(models[0].parameters()), AdamWPrune(models[1].parameters())
    run(models[0], optimizers[0], range(4))
    models[1].load_state_dict(models[0].state_dict())
    saved = copy.deepcopy(get_optimizer_state_dict(models[0], optimizers[0]))
    set_optimizer_state_dict(models[1], optimizers[1], saved)
    assert_goes_on_alike(models, optimizers, 4)


def test_flattened_states_of_a_pruned_model_round_trip() -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    models = net(), net()
    optimizers = named(models[0]), named(models[1])
    run(models[0], optimizers[0], range(23))
    models[1].load_state_dict(models[0].state_dict())
    saved = copy.deepcopy(get_optimizer_state_dict(models[0], optimizers[0], options=options))
    set_optimizer_state_dict(models[1], optimizers[1], saved, options=options)
    assert_goes_on_alike(models, optimizers, 23)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_making_states_by_an_empty_step_neither_counts_nor_prunes(mode: dict[str, Any]) -> None:
    model = net()
    before = copy.deepcopy(model)
    optimizer = prune(model, start_step=0, end_step=1, update_interval=1, **mode)
    get_optimizer_state_dict(model, optimizer)
    assert_equal(model, before)
    assert optimizer.steps == 0 and optimizer.sparsity() == 0.0
    run(model, optimizer, range(1))
    assert optimizer.steps == 1 and optimizer.sparsity() == pytest.approx(0.8, abs=0.01)


def test_neither_making_an_optimizer_nor_asking_for_its_sparsity_makes_states() -> None:
    optimizer = prune(net())
    assert optimizer.sparsity() == 0.0 and optimizer.layer_densities() == [1.0, 1.0, 1.0]
    assert len(optimizer.state) == 0


def test_hooks_may_unwrap_a_checkpoint_and_see_the_position_once_it_is_loaded() -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(23))
    fresh, seen = prune(net()), []
    fresh.register_load_state_dict_pre_hook(lambda _, state_dict: state_dict["optimizer"])
    fresh.register_load_state_dict_post_hook(lambda loaded: seen.append((loaded.steps, loaded.sparsity())))
    fresh.load_state_dict({"optimizer": optimizer.state_dict()})
    assert seen == [(23, optimizer.sparsity())]


@pytest.mark.parametrize("steps", [0, *STEPS])
def test_files_of_older_versions_are_read(steps: int) -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(steps))
    old = copy.deepcopy(optimizer.state_dict())
    for group in old["param_groups"]:
        del group["steps"], group["mode"]
    for index, weight in enumerate(model.parameters()):
        if "kept" in optimizer.state.get(weight, {}):
            old["state"][index]["kept"] = optimizer.state[weight]["kept"]
    old |= {"steps": steps, "mode": "gradual"}
    copied = copy.deepcopy(model)
    fresh = prune(copied)
    fresh.load_state_dict(old)
    assert fresh.steps == steps
    assert_goes_on_alike((model, copied), (optimizer, fresh), steps)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_saved_and_loaded_by_distributed_checkpoint_the_position_is_kept(process_group: None, tmp_path: Path) -> None:
    model = net()
    optimizer = prune(model)
    run(model, optimizer, range(23))
    dcp.save({"optimizer": optimizer.state_dict()}, checkpoint_id=tmp_path / "saved")
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["steps"] = 0
    dcp.load({"optimizer": state}, checkpoint_id=tmp_path / "saved")
    fresh = prune(copy.deepcopy(model))
    fresh.load_state_dict(state)
    assert fresh.steps == 23 and fresh.sparsity() == optimizer.sparsity()


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_the_zero_redundancy_optimizer_resumes_where_it_was(
    mode: dict[str, Any], steps: int, process_group: None
) -> None:
    made: dict[str, Any] = {"lr": 0.01, "sparsity": 0.8, "start_step": 2, "end_step": 20, "update_interval": 3}

    def wrapped(model: nn.Module) -> ZeroRedundancyOptimizer:
        return ZeroRedundancyOptimizer(model.parameters(), optimizer_class=AdamWPrune, **(made | mode))

    model = net()
    optimizer = wrapped(model)
    run(model, optimizer, range(steps))
    optimizer.consolidate_state_dict()
    saved = copy.deepcopy(optimizer.state_dict())
    copied = copy.deepcopy(model)
    fresh = wrapped(copied)
    fresh.load_state_dict(saved)
    assert_goes_on_alike((model, copied), (optimizer, fresh), steps)
    assert fresh.optim.sparsity() == pytest.approx(0.8, abs=0.01)
