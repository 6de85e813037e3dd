"""Folders of images are read, cached, and named where they are damaged."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors import safe_open
from safetensors.torch import save_file

from lib.data import image_folder, readers, sources
from lib.data.errors import DataError
from lib.data.sources import locate, prepare

CPU = torch.device("cpu")


def write_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), mode: str = "RGB", count: int = 3) -> None:
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                colour = 40 * number + index if mode == "L" else (40 * number, index, 200)
                Image.new(mode, (32, 32), colour).save(root / split / name / f"{index}.png")


def test_cifar10_takes_its_unpacked_images_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CIFAR10_COUNTS", {"train": 3, "test": 3})
    write_folder(tmp_path / "cifar10", sources.CIFAR10_CLASSES)
    source = locate("cifar10", tmp_path, download=True)
    assert f"image folder {tmp_path / 'cifar10'}" in source.note
    (tmp_path / "cifar10" / "train" / "frog" / "1.png").unlink()
    with pytest.raises(DataError, match=r"train/frog is incomplete: 2 images where CIFAR-10 has 3"):
        locate("cifar10", tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An image folder, where its cache lies, and how many images were decoded."""
    seen = SimpleNamespace(folder=tmp_path / "images", place=tmp_path / "cache", decoded=0)
    monkeypatch.setenv("ADAMWPRUNE_CACHE", str(seen.place))
    whole = Image.open

    def counted(file: Any, *arguments: Any, **options: Any) -> Image.Image:
        seen.decoded += 1
        return whole(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", counted)
    return seen


def test_an_image_folder_is_read_in_colour_or_grey_and_brought_to_32_pixels(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    Image.new("L", (64, 48), 90).save(cache.folder / "train" / "cat" / "grey.png")
    (cache.folder / "train" / "cat" / "notes.txt").write_text("passed over")
    images = readers.read(locate("image_folder", cache.folder))
    assert images.class_names == ("cat", "dog")
    assert images.train_labels.tolist() == [0, 0, 0, 0, 1, 1, 1] and images.train_images.shape[1:] == (3, 32, 32)
    assert images.train_images[1, :, 0, 0].tolist() == [0, 1, 200]
    assert images.train_images[3].unique().tolist() == [90]


def test_a_grey_folder_has_one_channel(cache: SimpleNamespace) -> None:
    write_folder(cache.folder, mode="L")
    assert image_folder.read(cache.folder).train_images.shape == (6, 1, 32, 32)


def test_decoded_images_are_cached_until_the_source_changes(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    first = image_folder.read(cache.folder)
    assert cache.decoded == 12
    again = image_folder.read(cache.folder)
    assert cache.decoded == 12 and torch.equal(first.train_images, again.train_images)
    image = cache.folder / "train" / "cat" / "0.png"
    os.utime(image, ns=(1, 1))
    image_folder.read(cache.folder)
    assert cache.decoded == 24
    image.unlink()
    assert len(image_folder.read(cache.folder).train_images) == 5


def test_a_damaged_cache_is_made_again(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    first = image_folder.read(cache.folder)
    (file,) = cache.place.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(image_folder.read(cache.folder).test_images, first.test_images)
    assert cache.decoded == 24


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_cache_that_others_can_write_is_not_read(cache: SimpleNamespace, which: str) -> None:
    write_folder(cache.folder)
    image_folder.read(cache.folder)
    (file,) = cache.place.glob("*.safetensors")
    assert (file.stat().st_mode & 0o777, cache.place.stat().st_mode & 0o777) == (0o600, 0o700)
    (file if which == "file" else cache.place).chmod(0o777)
    image_folder.read(cache.folder)
    assert cache.decoded == 24


def test_a_cache_behind_a_link_is_not_read(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    image_folder.read(cache.folder)
    (file,) = cache.place.glob("*.safetensors")
    file.rename(cache.folder / "elsewhere")
    file.symlink_to(cache.folder / "elsewhere")
    image_folder.read(cache.folder)
    assert cache.decoded == 24


@pytest.mark.parametrize("change", ["pixels", "labels", "number"])
def test_a_cache_that_does_not_fit_its_sum_or_its_source_is_made_again(cache: SimpleNamespace, change: str) -> None:
    write_folder(cache.folder)
    first = image_folder.read(cache.folder)
    (file,) = cache.place.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if change == "pixels":
        tensors["train_images"] += 1
    else:
        labels = tensors["train_labels"]
        tensors["train_labels"] = labels.flip(0) if change == "labels" else labels[:-1]
        content = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
        metadata["sha256"] = hashlib.sha256(content).hexdigest()
    save_file(tensors, file, metadata)
    file.chmod(0o600)
    assert torch.equal(image_folder.read(cache.folder).train_images, first.train_images)
    assert cache.decoded == 24


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path)
    image = tmp_path / "train" / "cat" / "x.png"
    if kind == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"train/cat/x.png is not a regular file"):
        locate("image_folder", tmp_path)


def test_no_other_program_is_started_for_an_image(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: started.append(arguments))
    write_folder(cache.folder)
    image = cache.folder / "train" / "cat" / "0.png"
    image.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(DataError, match=f"{image} cannot be decoded"):
        image_folder.read(cache.folder)
    assert not started


def test_an_image_far_too_large_is_refused(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(cache.folder)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # up to twice as many Pillow warns only
    with pytest.raises(DataError, match="decompression bomb"):
        image_folder.read(cache.folder)


def test_without_a_place_for_the_cache_images_are_still_read(
    cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(cache.folder)
    monkeypatch.setenv("ADAMWPRUNE_CACHE", "/proc/nowhere")
    assert len(image_folder.read(cache.folder).train_images) == 6


def test_an_image_that_cannot_be_decoded_is_named(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    broken = cache.folder / "test" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{broken} cannot be decoded"):
        image_folder.read(cache.folder)


def test_classes_must_be_the_same_in_both_splits_and_not_empty(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "test" / "bird").mkdir()
    with pytest.raises(DataError, match="test/bird holds no images"):
        locate("image_folder", tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "test" / "bird" / "1.png")
    with pytest.raises(DataError, match="train and test differ in their classes: bird"):
        locate("image_folder", tmp_path)


def write_grey(folder: Path, values: np.ndarray, suffix: str = "png") -> None:
    """A folder whose images all have these values, 32 by 32, in a grey format of Pillow's choice."""
    write_folder(folder, mode="L", count=1)
    for image in folder.rglob("*.png"):
        image.unlink()
        Image.fromarray(values).save(image.with_suffix(f".{suffix}"))


@pytest.mark.parametrize(
    ("kind", "suffix", "values", "expected"),
    [
        (np.uint16, "png", (0, 32768, 65535), (0, 128, 255)),
        (np.uint16, "tif", (0, 257, 65535), (0, 1, 255)),
        (np.int32, "tif", (0, 32768, 65535), (0, 128, 255)),
        (np.int32, "tif", (-100, 0, 155), (0, 100, 255)),  # no range of its own
        (np.float32, "tif", (0, 0.5, 1), (0, 128, 255)),
        (np.float32, "tif", (0, 500, 1000), (0, 128, 255)),
    ],
)
def test_grey_of_more_than_8_bits_is_scaled_by_its_range_and_stays_grey(
    cache: SimpleNamespace, kind: type, suffix: str, values: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    pixels = np.zeros((32, 32), kind)
    pixels[0, :3] = values
    write_grey(cache.folder, pixels, suffix)
    images = image_folder.read(cache.folder).train_images
    assert images.shape == (2, 1, 32, 32) and tuple(images[0, 0, 0, :3].tolist()) == expected


def test_an_image_is_turned_upright_as_its_exif_says(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    lying = Image.new("RGB", (32, 32))
    lying.paste((255, 255, 255), (0, 0, 32, 16))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    lying.save(cache.folder / "train" / "cat" / "0.png", exif=exif)
    image = image_folder.read(cache.folder).train_images[0, 0]
    assert image[:, :16].eq(0).all() and image[:, 16:].eq(255).all()


def test_images_in_folders_below_a_class_belong_to_it(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    below = cache.folder / "train" / "cat" / "tabby" / "young"
    below.mkdir(parents=True)
    Image.new("RGB", (32, 32), (1, 2, 3)).save(below / "0.png")
    (cache.folder / "train" / "cat" / ".hidden").mkdir()
    assert locate("image_folder", cache.folder).shape.train_images == 7
    images = image_folder.read(cache.folder)
    assert images.train_labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert images.train_images[3, :, 0, 0].tolist() == [1, 2, 3]


def test_a_linked_folder_below_a_class_is_refused_instead_of_left_out(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    (cache.folder / "train" / "cat" / "loop").symlink_to(cache.folder)
    with pytest.raises(DataError, match="train/cat/loop is a link to a folder"):
        locate("image_folder", cache.folder)


def test_all_broken_images_are_named_up_to_ten_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAMWPRUNE_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "images", count=6)
    broken = sorted((tmp_path / "images" / "train").rglob("*.png"))
    for image in broken:
        image.write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        prepare(locate("image_folder", tmp_path / "images"))
    message = str(error.value)
    assert "\n" not in message and message.endswith("; and 2 more")
    assert "0.png cannot be decoded: none of PNG, JPEG" in message
    assert [str(image) in message for image in broken] == [True] * 10 + [False] * 2


def test_what_is_prepared_is_not_decoded_again(cache: SimpleNamespace) -> None:
    write_folder(cache.folder)
    prepare(locate("image_folder", cache.folder))
    image_folder.read(cache.folder)
    assert cache.decoded == 0
