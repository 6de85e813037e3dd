"""Time a training step of ResNet-18 as the harness takes it: passes alone, each optimizer's step, the whole loop."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lib.config.run_config import RunConfig
from lib.data import loader
from lib.optimizers.adamwprune import AdamWPrune
from lib.storage.run_dir import RunDir
from lib.training.build import build_optimizer
from lib.training.trainer import Training
from resnet18.train import build_model
from scripts.benchmarks.interleaved import Events, time_interleaved
from scripts.benchmarks.training_loop import small_config

Batch = tuple[Tensor, Tensor]  # images and labels
# Steps of one call: a GPU is given its work ahead of time, and only the last step is waited for.
STEPS = {"cpu": 4, "cuda": 20}
BATCHES = {"cpu": (128,), "cuda": (128, 512)}


def measure(device: torch.device, rounds: int) -> Events:
    usual, steps = small_config("resnet18", device), STEPS[device.type]
    for batch in BATCHES[device.type]:
        images = min(steps, 5000 // batch) * batch  # there are 5,000 synthetic ones
        config = replace(usual, batch_size=batch, train_images=images, compile="auto")
        yield from _steps(config, max(rounds // 2, 3))


def _steps(config: RunConfig, rounds: int) -> Events:
    """Time all optimizers on one model in turn, so that it is compiled once."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config, RunDir(Path(folder)), build_model, None, lambda line: None)
        training.measure_activations_and_compile()
        batches = list(loader.batches(training.data, config, epoch=0))
        alternatives = {"forward and backward": None, "torch AdamW": training.optimizer} | _others(training, batches)
        calls = {name: _taken(training, batches, optimizer) for name, optimizer in alternatives.items()}
        calls["torch AdamW, in the training loop"] = _loop(training)
        setup = training.setup
        way = f"{setup.precision}, {'compiled' if setup.compiled else 'eager'}"
        part = f"{len(batches)} steps of ResNet-18, width {config.setting('width')}, batch {config.batch_size}, {way}"
        yield from time_interleaved(part, calls, rounds, images=config.train_images)


def _others(training: Training, batches: list[Batch]) -> dict[str, torch.optim.Optimizer]:
    """Return the other optimizers of the menus on the parameters of this model, and AdamWPrune at a final sparsity."""
    found: dict[str, torch.optim.Optimizer] = {}
    for name in ("sgd", "adam", "adamwadv", "adamwspam", "adamwprune"):
        config = small_config("resnet18", training.device, name)
        found[name] = build_optimizer(config, training.model, 10**6)
    for sparsity in (0.7, 0.9):
        weights = list(training.model.parameters())
        pruned = AdamWPrune(weights, lr=1e-4, sparsity=sparsity, end_step=1, update_interval=1, fused=True)
        _taken(training, batches[:1], pruned)()
        found[f"adamwprune, {sparsity:.0%} pruned"] = pruned
    return found


def _taken(training: Training, batches: list[Batch], optimizer: torch.optim.Optimizer | None) -> Callable[[], None]:
    def steps() -> None:
        training.model.train()
        for images, labels in batches:
            training.model.zero_grad(set_to_none=True)
            with training.setup.autocast():
                loss = training.loss(training.model(images), labels)
            loss.backward()
            if optimizer is not None:
                optimizer.step()
        loss.item()

    return steps


def _loop(training: Training) -> Callable[[], None]:
    def epoch() -> None:
        training.train_epoch()
        training.progress.next_epoch(training.record)

    return epoch
