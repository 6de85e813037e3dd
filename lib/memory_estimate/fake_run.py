"""Parts of a run rehearsed on fake tensors, which have a shape and a type but no data: nothing is allocated.

One training pass, one evaluation, one optimizer step and one mask update run through the model, data, optimizer and
pruning code of real runs, while `LiveBytes` counts what is alive after every operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

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
from ..memory.tracker import Bytes, LiveBytes
from ..optimizers import lean, sparse_state
from ..optimizers.adamwprune import AdamWPrune
from ..pruning import masks, score_histogram
from ..pruning.movement import MovementPruner
from ..pruning.pruner import MaskedPruner, Pruner
from ..pruning.schedule import CubicSchedule
from ..training.build import build_optimizer, build_pruner
from ..training.device import DTYPES

BuildModel = Callable[[RunConfig, Data], nn.Module]

NEVER = 1 << 60  # the step of the next mask update, while plain steps are rehearsed
UNIT_SCORE_BIN = score_histogram.NUM_BINS // 2 + 0x3F80  # the bin that counts scores of 1.0


@dataclass(frozen=True)
class Passes:
    """What forward, backward and evaluation need, apart from optimizer and pruning: bytes by category."""

    training: Bytes
    evaluation: Bytes
    between: Bytes  # after the backward pass, when the optimizer steps


def shape_of(config: RunConfig) -> tuple[int, int, int, int, int]:
    """Number of training, validation and test images, channels and classes of a run's data."""
    # where the shape is known beforehand, the images need not be there
    everything, test, channels, classes = SHAPES.get(config.dataset) or locate(config.dataset, config.data_dir).shape
    left = everything - config.validation_images
    return min(config.train_images or left, left), config.validation_images, test, channels, classes


def fake_data(config: RunConfig) -> Data:
    """The run's data without its content. Call it under a FakeTensorMode."""
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
def fake_gpu_mode() -> Iterator[LiveBytes]:
    """Create fake tensors instead of real ones, count them, and take the code paths of a GPU."""
    with use(FakeHost()), torch.random.fork_rng(devices=[]), FakeTensorMode(), LiveBytes() as live:
        yield live


class FakeHost(Host):
    """Answer for fake tensors: nothing can be read, all scores are 1, and kept weights are spread evenly."""

    def can_read(self, tensor: Tensor) -> bool:
        return False

    def mask_counts(self, counts: Sequence[Tensor], sizes: Sequence[int], totals: Sequence[int]) -> list[list[int]]:
        return [spread(size, total) for size, total in zip(sizes, totals, strict=True)]

    def histograms(self, table: Tensor, totals: Sequence[int]) -> np.ndarray:
        numbers = np.zeros(table.shape, dtype=np.int64)
        numbers[:, UNIT_SCORE_BIN] = totals
        return numbers


def spread(size: int, number: int) -> list[int]:
    """So many of `size` weights, as even as can be, counted in each slice."""
    ends = [number * stop // size for _, stop in masks.slices(size)]
    return [after - before for before, after in zip([0, *ends], ends, strict=False)]


def build(config: RunConfig, build_model: BuildModel, live: LiveBytes) -> tuple[nn.Module, Data]:
    """Model and data, each counted as what it is."""
    live.kind = "data"
    data = fake_data(config)
    live.kind = "weights"
    model = build_model(config, data)  # the order of its weights in memory takes no memory
    for buffer in model.buffers():
        live.assign(buffer, "buffers")
    return model, data


def rehearse_passes(config: RunConfig, build_model: BuildModel) -> Passes:
    """One forward and backward pass as the trainer makes them, and one evaluation."""
    with fake_gpu_mode() as live:
        model, data = build(config, build_model, live)
        for weight in model.parameters():
            weight.register_post_accumulate_grad_hook(lambda w: live.assign(w.grad, "gradients"))
        dtype = DTYPES.get(config.precision)
        live.kind = "data"
        source = loader.batches(data, config, epoch=0)
        images, labels = next(source)
        live.kind = "activations"
        live.forget()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
        live.kind = "temporary"
        loss.backward()
        training = live.highest
        del loss
        between = dict(live.now)
        del images, labels, source
        live.kind = "activations"
        live.forget()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            for part, _ in loader.evaluation_batches(data.test_images, data.test_labels, data, config):
                model(part)
                break
        return Passes(training, live.highest, between)


def rehearse_step(config: RunConfig, build_model: BuildModel, stage: str) -> Bytes:
    """What optimizer and pruning hold at a stage, and, as `temporary`, what a step or a mask update needs beside."""
    with fake_gpu_mode() as live:
        model, data = build(config, build_model, live)
        steps = loader.steps_per_epoch(data, replace(config, batch_size=128)) * config.epochs
        optimizer = build_optimizer(config, model, steps)
        pruner = build_pruner(config, model, optimizer, steps)
        prunes = next((each for each in (optimizer, pruner) if isinstance(each, AdamWPrune | MaskedPruner)), None)
        schedule = prunes.schedule if prunes else None
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight)
        set_stage(optimizer, pruner, stage)
        if not isinstance(optimizer, AdamWPrune) or stage == "start":
            optimizer.step()  # states appear in the first step
        live.forget()
        one_step(config, model, optimizer, pruner)
        held = accounting.account(model, optimizer, pruner)
        temporary = sum(live.highest.values()) - live.now.total()
        if prunes and schedule and schedule.final and stage != "after":
            before = live.now.total()
            live.forget()
            one_update(prunes, schedule, stage)
            temporary = max(temporary, sum(live.highest.values()) - before)
        return {name: held[name] for name in ("optimizer_state", "pruning_state")} | {"temporary": temporary}


def one_update(prunes: AdamWPrune | MaskedPruner, schedule: CubicSchedule, stage: str) -> None:
    """The mask update that this stage ends with. Weights that return are left out: they need no more than the rest."""
    updates = {"start": 1, "ramp": 2}[stage]
    prunes.schedule = schedule
    prunes.steps = min(schedule.start + updates * schedule.interval, schedule.end)
    if isinstance(prunes, AdamWPrune):
        prunes.regrowth = 0.0
    with torch.no_grad():
        prunes.update_masks()


def one_step(config: RunConfig, model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner) -> None:
    """What the trainer does between two backward passes."""
    if config.gradient_clip:
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    pruner.before_step()
    optimizer.step()
    pruner.after_step()


def set_stage(optimizer: torch.optim.Optimizer, pruner: Pruner, stage: str) -> None:
    """Bring masks and states to where they are at a stage, without choosing weights: only numbers matter here."""
    if isinstance(optimizer, AdamWPrune) and optimizer.schedule.final:
        schedule = optimizer.schedule
        first = schedule.sparsity(min(schedule.start + schedule.interval, schedule.end))
        sparsity = {"start": 0.0, "ramp": first, "after": schedule.final}[stage]
        if optimizer.mode != "gradual":
            sparsity = schedule.final
        if stage != "start" or optimizer.mode != "gradual":
            make_sparse(optimizer, sparsity, stage == "after")
            optimizer.steps = NEVER + 2 if stage == "after" else 1
        optimizer.schedule = replace(schedule, start=NEVER, end=NEVER + 1, interval=NEVER)
    if isinstance(pruner, MaskedPruner):
        if stage != "start":
            sizes = {name: masks.packed_size(weight.numel()) for name, weight in pruner.weights.items()}
            pruner.masks = {name: torch.empty(size, dtype=torch.uint8) for name, size in sizes.items()}
        pruner.schedule = replace(pruner.schedule, start=NEVER, end=NEVER + 1)
    if isinstance(pruner, MovementPruner) and stage == "after":
        pruner.learned_scores.clear()
        pruner.pruned_values.clear()


def make_sparse(optimizer: AdamWPrune, sparsity: float, ended: bool) -> None:
    """Compact states for as many weights as survive, spread evenly; `ended`: the ramp lies behind."""
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
