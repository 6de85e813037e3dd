"""Images are read as they stand in their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.data import readers
from lib.data.sources import locate
from tests.helpers.image_files import write_cifar10, write_mnist


def test_mnist_is_read_from_its_files_and_padded_with_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_mnist(tmp_path / "MNIST" / "raw", monkeypatch)
    images = readers.read(locate("mnist", tmp_path))
    assert images.train_images.shape == (20, 1, 32, 32) and images.test_labels.tolist() == list(range(10))
    assert torch.equal(images.train_images[:, 0, 2:30, 2:30], pixels[:20])
    assert images.train_images.sum() == pixels[:20].sum()


def test_cifar10_is_read_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    images = readers.read(locate("cifar10", tmp_path))
    assert images.train_images.shape == (10, 3, 32, 32)
    assert images.train_labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert images.test_images.unique().tolist() == [5] and images.class_names[0] == "airplane"
