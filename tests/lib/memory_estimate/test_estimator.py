"""Predictions agree with what real runs on the CPU hold, and allocate nothing themselves."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib.config.run_config import RunConfig
from lib.data import loader
from lib.data.dataset import Data
from lib.kernels import host
from lib.memory import accounting
from lib.memory.tracker import MemoryTracker
from lib.memory_estimate.estimator import CATEGORIES, MOMENTS, MemoryEstimator, Prediction, total
from lib.memory_estimate.fake_run import fake_data, fake_gpu_mode
from lib.pruning import masks
from lib.training.trainer import Training
from resnet18.model import ResNet18
from tests.helpers.tiny_runs import folder, lenet5, tiny

MIB = 2**20


@pytest.fixture(autouse=True)
def leave_the_process_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def resnet(config: RunConfig, data: Data) -> nn.Module:
    return ResNet18(data.channels, data.classes, config.setting("width"))


@pytest.fixture(scope="module")
def estimator() -> MemoryEstimator:
    return MemoryEstimator({"lenet5": lenet5, "resnet18": resnet}.__getitem__)


def small(optimizer: str = "adamw", method: str = "none", sparsity: float = 0.9, **changes: Any) -> RunConfig:
    return tiny(optimizer, method, sparsity, device="cpu", precision="fp32", eval_batch_size=64, **changes)


def after(prediction: Prediction, category: str) -> int:
    return list(prediction.stages.values())[-1]["pass"][category]


def real_step(config: RunConfig, path: Path) -> tuple[Training, int]:
    """A run after one step, and the most bytes that came to life in its second one."""
    training = Training(config, folder(path), lenet5, None, lambda line: None)
    training.model.train()
    training.train_step(*next(loader.batches(training.data, config, 0)), 0)
    training.optimizer.zero_grad()
    with MemoryTracker(before=training.model.state_dict().values()) as tracker:
        source = loader.batches(training.data, config, 0)  # lives on in the loop, and some of its tensors with it
        training.train_step(*next(source), 1)
    return training, sum(tracker.peak.values())


def test_fake_tensors_are_counted_as_real_ones() -> None:
    def work() -> None:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))
        F.cross_entropy(model(torch.zeros(4, 3, 32, 32)), torch.zeros(4, dtype=torch.int64)).backward()

    with MemoryTracker() as real:
        work()
    with fake_gpu_mode() as fake:
        work()
    assert sum(real.peak.values()) == sum(fake.peak.values()) > 100_000


# --- against real runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["gradual", "lean", "dynamic"])
def test_a_run_whose_ramp_ends_with_its_second_step_is_predicted_too(estimator: MemoryEstimator, mode: str) -> None:
    config = small("adamwprune", "state", epochs=2, train_images=256, mode=mode, pruning_start=0.1, pruning_end=0.5)
    assert after(estimator.predict(config), "optimizer_state") > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_training_pass_is_what_a_real_step_on_the_cpu_needs(
    estimator: MemoryEstimator, tmp_path: Path, precision: str
) -> None:
    config = replace(small(), precision=precision)
    _, measured = real_step(config, tmp_path)
    held = estimator.predict(config).stages["start"]["pass"]
    with fake_gpu_mode():
        data = fake_data(config)
        stored = [data.train_images, data.train_labels, data.test_images, data.test_labels, data.mean, data.std]
        dataset = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    there_before = dataset + sum(held[name] for name in ("weights", "buffers", "optimizer_state", "pruning_state"))
    assert total(held) - there_before == pytest.approx(measured, rel=0.002)


@pytest.mark.parametrize(
    ("optimizer", "method"),
    [("sgd", "none"), ("adamwadv", "none"), ("adamwspam", "magnitude"), ("adam", "movement"), ("adamwprune", "state")],
)
def test_predicted_states_are_those_of_the_live_tensors(
    estimator: MemoryEstimator, tmp_path: Path, optimizer: str, method: str
) -> None:
    config = small(optimizer, method)
    predicted = estimator.predict(config)
    training, _ = real_step(config, tmp_path)
    live = accounting.account(training.model, training.optimizer, training.pruner)
    for name in accounting.CATEGORIES:
        moment = "evaluation" if name == "gradients" else "pass"  # all gradients exist by then
        assert predicted.stages["start"][moment][name] == live[name], name
    if method == "none":
        assert list(predicted.stages) == ["start"]
        return
    batches = list(loader.batches(training.data, config, 0))
    while training.pruner.phase(training.progress.step + 1) != "finetune":
        training.train_step(*batches[training.progress.step % 4], training.progress.step)
        training.progress.step += 1
    for _ in range(2):
        training.train_step(*batches[0], training.progress.step)
    live = accounting.account(training.model, training.optimizer, training.pruner)
    assert after(predicted, "optimizer_state") == pytest.approx(live["optimizer_state"], rel=0.001)
    assert after(predicted, "pruning_state") == live["pruning_state"]


def test_adamwprune_ends_at_eight_bytes_a_survivor_and_one_bit_a_weight(estimator: MemoryEstimator) -> None:
    prunable, rest = 61_470, 61_750 - 61_470
    for sparsity in (0.5, 0.7, 0.9):
        predicted = estimator.predict(small("adamwprune", "state", sparsity))
        states = after(predicted, "optimizer_state") + after(predicted, "pruning_state")
        assert states - 8 * rest == pytest.approx((8 * (1 - sparsity) + 1 / 8) * prunable, abs=100)
    dense = estimator.predict(small("adamwprune", "none")).stages["start"]["pass"]
    assert predicted.stages["start"]["pass"]["optimizer_state"] == dense["optimizer_state"]


@pytest.mark.parametrize("mode", ["dynamic", "lean"])
def test_dynamic_and_lean_mode_are_small_from_the_first_step(estimator: MemoryEstimator, mode: str) -> None:
    predicted = estimator.predict(small("adamwprune", "state", mode=mode, ranking="erk"))
    sizes = {stage: held["pass"]["optimizer_state"] for stage, held in predicted.stages.items()}
    rows = 4 * (6 + 16 + 120 + 84 + 10) if mode == "lean" else 0  # freed with the ramp
    assert sizes["start"] == sizes["ramp"] == sizes["after"] + rows


def test_movement_holds_scores_and_values_until_the_ramp_ends(estimator: MemoryEstimator) -> None:
    predicted = estimator.predict(small("adamw", "movement"))
    bits = sum(masks.packed_size(n) for n in (150, 2400, 48_000, 10_080, 840))
    sizes = [held["pass"]["pruning_state"] for held in predicted.stages.values()]
    assert sizes == [8 * 61_470, 8 * 61_470 + bits, bits]


class GpuPaths(host.Host):
    """Take the code paths of a GPU, with real content."""

    def can_read(self, tensor: torch.Tensor) -> bool:
        return False


@pytest.mark.parametrize(
    ("optimizer", "method", "changes"),
    [
        ("adamwprune", "state", {"mode": "gradual"}),
        ("adamwprune", "state", {"mode": "lean"}),
        ("adamwprune", "state", {"mode": "dynamic", "regrowth": 0.3}),
        ("adamw", "magnitude", {}),
        ("adamw", "movement", {}),
    ],
)
def test_what_a_mask_update_needs_beside_is_predicted_too(
    estimator: MemoryEstimator, tmp_path: Path, optimizer: str, method: str, changes: dict[str, Any]
) -> None:
    config = small(optimizer, method, **changes)
    training, _ = real_step(config, tmp_path)
    model, pruner = training.model, training.optimizer if method == "state" else training.pruner
    held = [*model.parameters(), *(weight.grad for weight in model.parameters())]
    states = [
        *training.optimizer.state.values(),
        getattr(pruner, "learned_scores", {}),
        getattr(pruner, "pruned_values", {}),
    ]
    pruner.steps = pruner.schedule.start + pruner.schedule.interval
    tracker = MemoryTracker(before=[*held, *accounting.tensors_in(states)])
    with host.use(GpuPaths()), torch.no_grad(), tracker:
        pruner.update_masks()
    stages = estimator.predict(config).stages
    assert stages["start"]["step"]["temporary"] == pytest.approx(sum(tracker.peak.values()), rel=0.03)
    assert stages["start"]["step"]["temporary"] > 2 * 5 * 2**18 > 10 * stages["after"]["step"]["temporary"]


# --- what it promises beside ----------------------------------------------------------------------------------


def test_prediction_of_a_large_run_allocates_nothing_and_leaves_nothing_behind(estimator: MemoryEstimator) -> None:
    config = small().changed(model="resnet18", dataset="cifar10", train_images=0, width=64, batch_size=512)
    answers, state = host.current(), torch.random.get_rng_state()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predicted = estimator.predict(config)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert predicted.peak / MIB > 2000
    assert grown_mib < 250
    assert host.current() is answers
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(masks.unpack(torch.ones(1, dtype=torch.uint8), 0, 8)) is torch.Tensor


def test_parts_of_every_moment_are_named_and_none_is_negative(estimator: MemoryEstimator) -> None:
    predicted = estimator.predict(small("adamwprune", "state"))
    assert list(predicted.stages) == ["start", "ramp", "after"]
    for moments in predicted.stages.values():
        assert tuple(moments) == MOMENTS
        for held in moments.values():
            assert tuple(held) == CATEGORIES
            assert all(size >= 0 for size in held.values())
    assert predicted.peak == max(predicted.evaluation_peak, *(predicted.training_peak(s) for s in predicted.stages))


def test_largest_batch_fits_and_the_next_one_does_not(estimator: MemoryEstimator) -> None:
    config = small(dataset="mnist", train_images=0)
    limit = 150 * MIB
    batch = estimator.largest_batch(config, limit)
    assert batch % 8 == 0 and batch > 64
    assert estimator.predict(replace(config, batch_size=batch)).peak <= limit
    assert estimator.predict(replace(config, batch_size=batch + 16)).peak > limit


def test_largest_batch_is_none_or_the_whole_set_where_that_is_so(estimator: MemoryEstimator) -> None:
    config = small(train_images=300)
    assert estimator.largest_batch(config, 1 * MIB) == 0
    assert estimator.largest_batch(config, 1000 * MIB) == 300


def test_auto_precision_counts_as_on_a_gpu_unless_the_cpu_is_asked_for(estimator: MemoryEstimator) -> None:
    config = replace(small(), precision="auto")
    assert estimator.predict(config).config.precision == "fp32"
    assert estimator.predict(replace(config, device="auto")).config.precision == "bf16"
