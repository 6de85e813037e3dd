"""Time what the training loop costs beyond the bare forward pass, backward pass and optimizer step; data pipelines."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

from lib.config import kconfig
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.data import dataset as datasets
from lib.data import loader
from lib.storage.project import ROOT
from lib.storage.run_dir import RunDir
from lib.training.build import build_optimizer
from lib.training.models import load_build_model
from lib.training.trainer import Training
from scripts.benchmarks.interleaved import Events, time_interleaved

MODELS = ("lenet5", "resnet18")


def measure(device: torch.device, rounds: int) -> Events:
    for model in MODELS:
        yield from _epoch(small_config(model, device), rounds)
    yield from _pipelines(small_config("resnet18", device), rounds)


@functools.cache
def _settings() -> kconfig.Symbols:
    return kconfig.load(ROOT)


def small_config(
    model: str,
    device: torch.device,
    optimizer: str = "adamw",
    method: str = "none",
    sparsity: float = 0.0,
    seed: int = 0,
) -> RunConfig:
    """Return a small run on synthetic images: 8 batches, on a CPU the narrow ResNet-18 (speed only, no accuracy)."""
    config = run_config(_settings(), model, optimizer, method, sparsity, seed)
    if model == "resnet18" and device.type == "cpu":
        config = config.changed(width=16)
    return replace(
        config,
        dataset="synthetic",
        device=device.type,
        epochs=1000,
        train_images=1024,
        batch_size=128,
        compile="off",
    )


def _epoch(config: RunConfig, rounds: int) -> Events:
    """Time an epoch of the loop against the same calls on batches prepared beforehand."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        training = Training(config, RunDir(Path(folder)), load_build_model(config.model), None, lambda line: None)
        training.measure_activations_and_compile()
        batches = list(loader.batches(training.data, config, epoch=0))
        model, optimizer = training.model, build_optimizer(config, training.model, 10**6)

        def bare() -> None:
            model.train()
            for images, labels in batches:
                optimizer.zero_grad(set_to_none=True)
                with training.setup.autocast():
                    loss = F.cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
                loss.backward()
                optimizer.step()
            loss.item()

        def loop() -> None:
            training.train_epoch()
            training.progress.next_epoch(training.record)

        name = f"epoch of {config.model}, {training.setup.precision}"
        yield from time_interleaved(name, {"bare calls on prepared batches": bare, "training loop": loop}, rounds)


def _pipelines(config: RunConfig, rounds: int) -> Events:
    """Time cropping, flipping and normalising a set: batched on the device against torchvision with two workers."""
    data = datasets.load(config, torch.device(config.device))
    pipeline = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean.tolist(), data.std.tolist()),
        ]
    )
    image_by_image = DataLoader(_Images(data.train_images.cpu(), pipeline), config.batch_size, num_workers=2)

    def batched() -> None:
        for images, _ in loader.batches(data, config, epoch=0):
            last = images
        last[0, 0, 0, 0].item()  # a GPU is done only then

    calls = {
        "batched on the device": batched,
        "torchvision DataLoader, 2 workers": lambda: [None for _ in image_by_image],
    }
    images = len(data.train_images)
    yield from time_interleaved(f"{images} images cropped, flipped, normalised", calls, max(rounds // 4, 3))


class _Images(TensorDataset):
    def __init__(self, images: torch.Tensor, transform: transforms.Compose) -> None:
        super().__init__(images)
        self.transform = transform

    def __getitem__(self, index: int) -> torch.Tensor:  # type: ignore[override]
        return self.transform(self.tensors[0][index])
