"""Data that is absent or damaged is named before anything starts."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.data import sources
from lib.data.errors import DataError
from lib.data.sources import locate
from lib.storage.project import ROOT
from tests.helpers.image_files import md5, write_cifar10, write_mnist


def test_more_images_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match="mnist5k has 4000 training images, too few for TRAIN_IMAGES=3000"):
        locate("mnist5k", train_images=3000, validation_images=1500)


def test_an_unknown_dataset_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match="'mnist6k' is unknown; there are mnist, mnist5k"):
        locate("mnist6k")


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
        locate(dataset, folder, download=True)
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
        locate(dataset, tmp_path)
    message = str(error.value)
    assert str(tmp_path / place) in message and "\n" not in message
    assert dataset == "image_folder" or "choose another dataset" in message


def test_data_dir_counts_from_the_root_of_the_project() -> None:
    with pytest.raises(DataError, match=str(ROOT / "nowhere" / "MNIST")):
        locate("mnist", "nowhere")


def test_checks_and_command_line_do_not_import_torch() -> None:
    modules = "lib.data.sources, lib.config.cli, lib.training.main, lib.config.resolve"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


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


def pack(raw: Path) -> None:
    for file in list(raw.iterdir()):
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())
        file.unlink()


def test_packed_mnist_files_are_unpacked_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, monkeypatch)
    content = {file.name: file.read_bytes() for file in raw.iterdir()}
    pack(raw)
    assert locate("mnist", tmp_path).path == raw
    assert {name: (raw / name).read_bytes() for name in content} == content


@pytest.mark.parametrize("damage", [flip_one_bit, truncate])
def test_a_damaged_packed_file_is_named_and_leaves_nothing_half(
    damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, monkeypatch)
    pack(raw)
    damage(raw / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz (is damaged|does not hold)"):
        locate("mnist", tmp_path)
    assert not (raw / "train-images-idx3-ubyte").exists()


def test_absent_cifar10_suggests_an_image_folder_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"choose another dataset \(image_folder or synthetic\)"):
        locate("cifar10", tmp_path / "nowhere")
