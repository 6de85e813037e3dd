"""Batches hold the images they should; data that is absent or damaged is named before anything starts."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data import dataset, readers, sources
from lib.data.sources import DataError, check
from lib.storage.project import ROOT
from tests.helpers.tiny_runs import tiny

CPU = torch.device("cpu")


def small_data(count: int = 64, channels: int = 3) -> dataset.Data:
    """Images that are all different, with their index as label."""
    images = torch.randint(
        256, (count, channels, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    mean, std = dataset.channel_statistics(images)
    labels = torch.arange(count)
    return dataset.Data("small", "", images, labels, images, labels, None, None, mean, std, tuple("abcdefghij"))


def md5(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


# Batches


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    source, config = small_data(), tiny(batch_size=16)
    first, second = (
        [int(x) for _, labels in dataset.batches(source, config, epoch) for x in labels] for epoch in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second != sorted(second)


def test_batches_depend_on_seed_and_epoch_alone_and_go_on_in_mid_epoch() -> None:
    source, config = small_data(), tiny(batch_size=16, crop_padding=4, flip=True)
    whole = list(dataset.batches(source, config, 3))
    torch.manual_seed(99)  # the global generator plays no part
    rest = list(dataset.batches(source, config, 3, start_step=2))
    assert len(whole) == 4 and len(rest) == 2
    for (images, labels), (same, answers) in zip(whole[2:], rest, strict=True):
        assert torch.equal(images, same) and torch.equal(labels, answers)
    other = next(dataset.batches(source, tiny(batch_size=16, seed=1), 3))
    assert not torch.equal(other[1], whole[0][1])


def test_images_are_normalised_per_channel() -> None:
    source, config = small_data(), tiny(batch_size=64)
    images, labels = next(dataset.batches(source, config, 0))
    expected = (source.train_images[labels].double() / 255 - source.mean.view(1, 3, 1, 1)) / source.std.view(1, 3, 1, 1)
    assert torch.allclose(images.double(), expected, atol=1e-5)
    assert images.mean().abs() < 1e-4 and (images.std() - 1).abs() < 1e-3


def test_the_statistics_are_those_of_the_pixels() -> None:
    images = small_data().train_images
    mean, std = dataset.channel_statistics(images)
    pixels = images.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(std.double(), pixels.std((0, 2, 3), correction=0), atol=1e-6)


def test_crop_cuts_the_black_padded_image_at_its_corner() -> None:
    images = small_data(81).train_images
    top, left = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    cut = dataset.crop(images, 4, top.flatten(), left.flatten())
    padded = F.pad(images, (4, 4, 4, 4))
    for i, (y, x) in enumerate((y, x) for y in range(9) for x in range(9)):
        assert torch.equal(cut[i], padded[i, :, y : y + 32, x : x + 32])


def test_about_half_of_the_images_are_mirrored_and_none_is_changed_otherwise() -> None:
    source, config = small_data(256), tiny(batch_size=256, flip=True)
    images, labels = next(dataset.batches(source, config, 0))
    plain = dataset.normalise(source.train_images[labels], source)
    same = (images == plain).flatten(1).all(1)
    mirrored = (images == plain.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 90 < int(mirrored.sum()) < 166  # 128 +- 4.75 deviations


def test_fewer_images_than_a_batch_make_one_smaller_batch() -> None:
    source, config = small_data(10), tiny(batch_size=64)
    assert dataset.steps_per_epoch(source, config) == 1
    assert len(next(dataset.batches(source, config, 0))[0]) == 10


def test_evaluation_sees_every_image_once_in_order() -> None:
    source, config = small_data(), tiny(eval_batch_size=24)
    parts = list(dataset.evaluation_batches(source.test_images, source.test_labels, source, config))
    assert [len(images) for images, _ in parts] == [24, 24, 16]
    assert torch.equal(torch.cat([labels for _, labels in parts]), source.test_labels)


# Datasets


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


def test_more_images_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match="mnist5k has 4000 training images, too few for TRAIN_IMAGES=3000"):
        check("mnist5k", train_images=3000, validation_images=1500)


def test_an_unknown_dataset_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match="'mnist6k' is unknown; there are mnist, mnist5k"):
        check("mnist6k")


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


def test_mnist_is_read_from_its_files_and_padded_with_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_mnist(tmp_path / "MNIST" / "raw", monkeypatch)
    images = readers.read(check("mnist", tmp_path))
    assert images.train_images.shape == (20, 1, 32, 32) and images.test_labels.tolist() == list(range(10))
    assert torch.equal(images.train_images[:, 0, 2:30, 2:30], pixels[:20])
    assert images.train_images.sum() == pixels[:20].sum()


def flip_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def assert_named_with_both_sums(dataset: str, folder: Path, file: Path) -> None:
    before = sorted(folder.rglob("*"))
    expected = md5(file)
    with pytest.raises(DataError, match=f"{file} is damaged or half downloaded: its MD5 is {expected}, not "):
        check(dataset, folder, download=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("damage", [flip_one_bit, truncate])
def test_a_damaged_file_is_named_with_both_sums(damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, monkeypatch)
    file = raw / "train-images-idx3-ubyte"
    damage(file)
    assert_named_with_both_sums("mnist", tmp_path, file)


@pytest.mark.parametrize(
    ("dataset", "place"), [("mnist", "MNIST/raw"), ("cifar10", "cifar10/{train,test}"), ("image_folder", "train")]
)
def test_absent_data_is_one_sentence_with_the_folder_to_fill(dataset: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        check(dataset, tmp_path)
    message = str(error.value)
    assert str(tmp_path / place) in message and "\n" not in message
    assert dataset == "image_folder" or "choose another dataset" in message


def test_data_dir_counts_from_the_root_of_the_project() -> None:
    with pytest.raises(DataError, match=str(ROOT / "nowhere" / "MNIST")):
        check("mnist", "nowhere")


def test_checks_and_command_line_do_not_import_torch() -> None:
    modules = "lib.data.sources, lib.config.cli, lib.training.main, lib.config.resolve"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# CIFAR-10 and image folders


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six batches of two images, with their sums as the published ones."""
    folder.mkdir()
    for number, name in enumerate(sources.CIFAR10_FILES):
        pixels = np.full((2, 3072), number, np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [number, 9 - number]}))
    monkeypatch.setattr(sources, "CIFAR10_FILES", {path.name: md5(path) for path in folder.iterdir()})


@pytest.mark.parametrize("damage", [flip_one_bit, truncate])
def test_a_damaged_batch_or_archive_of_cifar10_is_named_with_both_sums(
    damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    damage(batch)
    assert_named_with_both_sums("cifar10", tmp_path, batch)
    batch.unlink()
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(bytes(range(200)))
    monkeypatch.setattr(sources, "CIFAR10_ARCHIVE", (archive.name, md5(archive)))
    damage(archive)
    assert_named_with_both_sums("cifar10", tmp_path, archive)


def test_cifar10_is_read_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)
    images = readers.read(check("cifar10", tmp_path))
    assert images.train_images.shape == (10, 3, 32, 32)
    assert images.train_labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert images.test_images.unique().tolist() == [5] and images.class_names[0] == "airplane"
