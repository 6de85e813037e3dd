"""A whole data set is read, split and measured the same way every time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lib.data import dataset, sources
from tests.helpers.image_files import small_data
from tests.helpers.tiny_runs import tiny

CPU = torch.device("cpu")


def test_the_statistics_are_those_of_the_pixels() -> None:
    images = small_data().train_images
    mean, std = dataset.channel_statistics(images)
    pixels = images.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(std.double(), pixels.std((0, 2, 3), correction=0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "channels", "train", "test"), [("synthetic", 3, 5_000, 1_000), ("mnist5k", 1, 4_000, 1_000)]
)
def test_bundled_datasets_are_balanced_and_always_the_same(name: str, channels: int, train: int, test: int) -> None:
    config = tiny(dataset=name, train_images=0)
    first, second = dataset.load(config, CPU), dataset.load(config, CPU)
    assert first.train_images.shape == (train, channels, 32, 32) and first.train_images.dtype == torch.uint8
    assert first.train_labels.bincount().tolist() == [train // 10] * 10
    assert first.test_labels.bincount().tolist() == [test // 10] * 10
    assert torch.equal(first.train_images, second.train_images)
    mean, std = dataset.channel_statistics(first.train_images)
    assert sources.SHAPES[name] == (train, test, channels, first.classes)
    assert torch.allclose(first.mean, mean, atol=2e-3) and torch.allclose(first.std, std, atol=2e-3)


def test_limit_and_validation_are_balanced_disjoint_and_the_same_for_every_seed() -> None:
    labels = torch.arange(1000) % 10
    train, validation = dataset.split(labels, 300, 200)
    assert isinstance(train, Tensor) and validation is not None
    assert labels[train].bincount().tolist() == [30] * 10
    assert labels[validation].bincount().tolist() == [20] * 10
    assert not set(train.tolist()) & set(validation.tolist())
    assert torch.equal(dataset.split(labels, 100, 200)[1], validation)  # type: ignore[arg-type]
    all_left, _ = dataset.split(labels, 0, 200)
    assert len(labels[all_left]) == 800
    a, b = (dataset.load(tiny(validation_images=100, seed=seed), CPU) for seed in (0, 1))
    assert a.validation_images is not None and b.validation_images is not None
    assert torch.equal(a.validation_images, b.validation_images) and torch.equal(a.train_images, b.train_images)
