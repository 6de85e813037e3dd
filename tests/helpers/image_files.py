"""Small data sets in memory and on disk, as the readers expect them."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.data import dataset, sources


def small_data(count: int = 64, channels: int = 3) -> dataset.Data:
    """Images that are all different, with their index as label."""
    images = torch.randint(
        256, (count, channels, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    mean, std = dataset.channel_statistics(images)
    labels = torch.arange(count)
    return dataset.Data("small", "", images, labels, images, labels, None, None, mean, std, tuple("abcdefghij"))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_mnist(raw: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Four IDX files of 20 and 10 digits, with their sums as the published ones."""
    raw.mkdir(parents=True)
    pixels = torch.randint(256, (30, 28, 28), dtype=torch.uint8)
    labels = torch.arange(30, dtype=torch.uint8) % 10
    for name, part in (("train", slice(20)), ("t10k", slice(20, 30))):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(bytes(16) + pixels[part].numpy().tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(bytes(8) + labels[part].numpy().tobytes())
    monkeypatch.setattr(sources, "MNIST_FILES", {path.name: md5(path) for path in raw.iterdir()})
    return pixels


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six batches of two images, with their sums as the published ones."""
    folder.mkdir()
    for number, name in enumerate(sources.CIFAR10_FILES):
        pixels = np.full((2, 3072), number, np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [number, 9 - number]}))
    monkeypatch.setattr(sources, "CIFAR10_FILES", {path.name: md5(path) for path in folder.iterdir()})
