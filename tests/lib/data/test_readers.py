"""Images are read as they stand in their files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data import readers, sources
from lib.data.errors import DataError
from lib.data.sources import locate
from tests.helpers.image_files import md5, write_cifar10, write_mnist


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_mnist_is_read_from_its_files_and_padded_with_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_mnist(tmp_path / "MNIST" / "raw", monkeypatch)
    images = readers.read(locate("mnist", tmp_path))
    assert images.train_images.shape == (20, 1, 32, 32) and images.test_labels.tolist() == list(range(10))
    assert torch.equal(images.train_images[:, 0, 2:30, 2:30], pixels[:20])
    assert images.train_images.sum() == pixels[:20].sum()


def test_a_batch_that_asks_for_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(folder := tmp_path / "cifar-10-batches-py", monkeypatch)
    (folder / "data_batch_1").write_bytes(pickle.dumps(MakesFolder(tmp_path / "made")))
    monkeypatch.setattr(sources, "CIFAR10_FILES", {path.name: md5(path) for path in folder.iterdir()})
    with pytest.raises(DataError, match=r"asks for posix.mkdir"):
        readers.read(locate("cifar10", tmp_path))
    assert not (tmp_path / "made").exists()


def test_a_batch_that_changes_after_the_check_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(folder := tmp_path / "cifar-10-batches-py", monkeypatch)
    source = locate("cifar10", tmp_path)
    (folder / "test_batch").write_bytes((folder / "data_batch_1").read_bytes())
    with pytest.raises(DataError, match="test_batch has changed"):
        readers.read(source)


def test_cifar10_is_read_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    images = readers.read(locate("cifar10", tmp_path))
    assert images.train_images.shape == (10, 3, 32, 32)
    assert images.train_labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert images.test_images.unique().tolist() == [5] and images.class_names[0] == "airplane"
