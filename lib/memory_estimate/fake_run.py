"""Trace parts of a run on fake tensors, which have a shape and a type but no content: nothing is allocated.

One training pass, one evaluation, one optimizer step and one mask update execute the model, data, optimizer and pruning
code of real runs, while `MemoryTracker` counts what is alive after every operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from ..config.run_config import RunConfig
from ..data import loader
from ..data.dataset import Data
from ..data.sources import SHAPES, locate
from ..kernels.host import Host, use
from ..memory import accounting
from ..memory.tracker import Bytes, MemoryTracker
from ..optimizers import lean, sparse_state
from ..optimizers.adamwprune import AdamWPrune
from ..pruning import masks, score_histogram
from ..pruning.movement import MovementPruner
from ..pruning.pruner import MaskedPruner, Pruner
from ..pruning.schedule import CubicSchedule
from ..training.build import build_optimizer, build_pruner
from ..training.device import DTYPES

if TYPE_CHECKING:
    from ..training.models import BuildModel

NEVER_STEP = 1 << 60  # the step of the next mask update while plain steps are traced
UNIT_SCORE_BIN = score_histogram.NUM_BINS // 2 + 0x3F80  # the bin that counts scores of 1.0


@dataclass(frozen=True)
class Passes:
    """Hold the bytes by category that passes need, without optimizer and pruning."""

    training: Bytes
    evaluation: Bytes
    between: Bytes  # after the backward pass, when the optimizer steps


def shape_of(config: RunConfig) -> tuple[int, int, int, int, int]:
    """Return the numbers of training, validation and test images, channels and classes of a run's data."""
    # where the shape is known beforehand, the images need not be there
    everything, test, channels, classes = SHAPES.get(config.dataset) or locate(config.dataset, config.data_dir).shape
    left = everything - config.validation_images
    return min(config.train_images or left, left), config.validation_images, test, channels, classes


def fake_data(config: RunConfig) -> Data:
    """Return the run's data without its content. Call it under a FakeTensorMode."""
    train, validation, test, channels, classes = shape_of(config)

    def images(number: int) -> Tensor:
        return torch.empty((number, channels, 32, 32), dtype=torch.uint8)

    def labels(number: int) -> Tensor:
        return torch.empty(number, dtype=torch.int64)

    return Data(
        name=config.dataset,
        note="",
        train_images=images(train),
        train_labels=labels(train),
        test_images=images(test),
        test_labels=labels(test),
        validation_images=images(validation) if validation else None,
        validation_labels=labels(validation) if validation else None,
        mean=torch.empty(channels),
        std=torch.empty(channels),
        class_names=("",) * classes,
    )


@contextlib.contextmanager
def fake_gpu_mode() -> Iterator[MemoryTracker]:
    """Create fake tensors instead of real ones, count them, and take the code paths of a GPU."""
    with use(FakeHost()), torch.random.fork_rng(devices=[]), FakeTensorMode(), MemoryTracker() as tracker:
        yield tracker


class FakeHost(Host):
    """Answer for fake tensors: nothing can be read, all scores are 1, and kept weights are spread evenly."""

    def can_read(self, tensor: Tensor) -> bool:
        return False

    def address(self, tensor: Tensor) -> int:
        return 0

    def mask_counts(self, counts: Sequence[Tensor], sizes: Sequence[int], totals: Sequence[int]) -> list[list[int]]:
        return [spread(size, total) for size, total in zip(sizes, totals, strict=True)]

    def histograms(self, table: Tensor, totals: Sequence[int]) -> np.ndarray:
        numbers = np.zeros(table.shape, dtype=np.int64)
        numbers[:, UNIT_SCORE_BIN] = totals
        return numbers


def spread(size: int, number: int) -> list[int]:
    """Return how many of `number` kept weights lie in each slice of `size` weights if they are spread evenly."""
    ends = [number * stop // size for _, stop in masks.slices(size)]
    return [after - before for before, after in zip([0, *ends], ends, strict=False)]


def build(config: RunConfig, build_model: BuildModel, tracker: MemoryTracker) -> tuple[nn.Module, Data]:
    """Build model and data, and count each in its category."""
    tracker.category = "data"
    data = fake_data(config)
    tracker.category = "weights"
    model = build_model(config, data)  # channels_last or not makes no difference to its size
    for buffer in model.buffers():
        tracker.assign(buffer, "buffers")
    return model, data


def trace_passes(config: RunConfig, build_model: BuildModel) -> Passes:
    """Trace one forward and backward pass as in the trainer, and one evaluation."""
    with fake_gpu_mode() as tracker:
        model, data = build(config, build_model, tracker)
        for weight in model.parameters():
            weight.register_post_accumulate_grad_hook(lambda w: tracker.assign(w.grad, "gradients"))
        dtype = DTYPES.get(config.precision)
        tracker.category = "data"
        source = loader.batches(data, config, epoch=0)
        images, labels = next(source)
        tracker.category = "activations"
        tracker.reset_peak()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
        tracker.category = "temporary"
        loss.backward()
        training = tracker.peak
        del loss
        between = dict(tracker.current)
        del images, labels, source
        tracker.category = "activations"
        tracker.reset_peak()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            for part, _ in loader.evaluation_batches(data.test_images, data.test_labels, data, config):
                model(part)
                break
        return Passes(training, tracker.peak, between)


def trace_step(config: RunConfig, build_model: BuildModel, stage: str) -> Bytes:
    """Trace one optimizer step and one mask update of a stage.

    Returns the bytes of `optimizer_state` and `pruning_state`, and as `temporary` what is allocated in addition during
    the step or the update.
    """
    with fake_gpu_mode() as tracker:
        model, data = build(config, build_model, tracker)
        steps = loader.steps_per_epoch(data, replace(config, batch_size=128)) * config.epochs
        optimizer = build_optimizer(config, model, steps)
        pruner = build_pruner(config, model, optimizer, steps)
        prunes = next((each for each in (optimizer, pruner) if isinstance(each, AdamWPrune | MaskedPruner)), None)
        schedule = prunes.schedule if prunes else None
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight)
        set_stage(optimizer, pruner, stage)
        if not isinstance(optimizer, AdamWPrune) or stage == "start":
            optimizer.step()  # the first step creates the states
        tracker.reset_peak()
        one_step(config, model, optimizer, pruner)
        held = accounting.account(model, optimizer, pruner)
        temporary = sum(tracker.peak.values()) - tracker.current.total()
        if prunes and schedule and schedule.final and stage != "after":
            before = tracker.current.total()
            tracker.reset_peak()
            one_update(prunes, schedule, stage)
            temporary = max(temporary, sum(tracker.peak.values()) - before)
        return {name: held[name] for name in ("optimizer_state", "pruning_state")} | {"temporary": temporary}


def one_update(prunes: AdamWPrune | MaskedPruner, schedule: CubicSchedule, stage: str) -> None:
    """Do the mask update that ends this stage, without regrowth, which needs no more memory than the rest."""
    updates = {"start": 1, "ramp": 2}[stage]
    prunes.schedule = schedule
    prunes.steps = min(schedule.start + updates * schedule.interval, schedule.end)
    if isinstance(prunes, AdamWPrune):
        prunes.regrowth = 0.0
    with torch.no_grad():
        prunes.update_masks()


def one_step(config: RunConfig, model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner) -> None:
    """Do what the trainer does between two backward passes."""
    if config.gradient_clip:
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    pruner.before_step()
    optimizer.step()
    pruner.after_step()


def set_stage(optimizer: torch.optim.Optimizer, pruner: Pruner, stage: str) -> None:
    """Give masks and states the sizes that they have at a stage; which weights are kept does not matter here."""
    if isinstance(optimizer, AdamWPrune) and optimizer.schedule.final:
        schedule = optimizer.schedule
        first = schedule.sparsity(min(schedule.start + schedule.interval, schedule.end))
        sparsity = {"start": 0.0, "ramp": first, "after": schedule.final}[stage]
        if optimizer.mode != "gradual":
            sparsity = schedule.final
        if stage != "start" or optimizer.mode != "gradual":
            make_sparse(optimizer, sparsity, stage == "after")
            optimizer.steps = NEVER_STEP + 2 if stage == "after" else 1
        optimizer.schedule = replace(schedule, start=NEVER_STEP, end=NEVER_STEP + 1, interval=NEVER_STEP)
    if isinstance(pruner, MaskedPruner):
        if stage != "start":
            sizes = {name: masks.packed_size(weight.numel()) for name, weight in pruner.weights.items()}
            pruner.masks = {name: torch.empty(size, dtype=torch.uint8) for name, size in sizes.items()}
        pruner.schedule = replace(pruner.schedule, start=NEVER_STEP, end=NEVER_STEP + 1)
    if isinstance(pruner, MovementPruner) and stage == "after":
        pruner.learned_scores.clear()
        pruner.pruned_values.clear()


def make_sparse(optimizer: AdamWPrune, sparsity: float, ended: bool) -> None:
    """Give the prunable weights the states of this sparsity, spread evenly; `ended`: the ramp is over."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if not group.get("prunable"):
                continue
            size = weight.numel()
            bits = torch.empty(masks.packed_size(size), dtype=torch.uint8)
            kept = spread(size, size - round(sparsity * size))
            sparse_state.init_sparse(optimizer.state[weight], weight, bits, kept, bool(group["fused"]))
            if optimizer.mode == "lean" and not ended:
                lean.init_row_moments(weight, optimizer.state[weight])
