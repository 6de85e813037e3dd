"""Load a whole data set as uint8 tensors onto the device, split into training, validation and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import readers
from .sources import source_of

if TYPE_CHECKING:
    from ..config.run_config import RunConfig

# Mean and standard deviation of each channel over the training images, in units of full brightness. MNIST's are those
# of the padded 32x32 images.
STATISTICS = {
    "mnist": ((0.1000,), (0.2752,)),
    "mnist5k": ((0.1000,), (0.2752,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@dataclass(frozen=True)
class Data:
    """Hold a whole data set on one device. Images: uint8 (n, channels, 32, 32); labels: int64 (n,)."""

    name: str
    note: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    validation_images: Tensor | None
    validation_labels: Tensor | None
    mean: Tensor
    std: Tensor
    class_names: tuple[str, ...]

    @cached_property
    def scale(self) -> Tensor:
        """Return the factor of `byte * scale + shift`, a normalised pixel; shape (1, channels, 1, 1)."""
        return (1 / (255 * self.std)).view(1, -1, 1, 1)

    @cached_property
    def shift(self) -> Tensor:
        return (-self.mean / self.std).view(1, -1, 1, 1)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]


def load(config: RunConfig, device: torch.device) -> Data:
    """Read, split and move the data set of a run. Raises DataError with one sentence where it cannot."""
    source = source_of(config)
    images = readers.read(source)
    train, validation = split(images.train_labels, config.train_images, config.validation_images)
    train_images, train_labels = images.train_images[train], images.train_labels[train]
    known = STATISTICS.get(source.dataset)
    mean, std = map(torch.tensor, known) if known else channel_statistics(train_images)
    counts = f"{len(train_images)} training, {len(images.test_images)} test"
    if validation is not None:
        counts += f", {len(validation)} validation"
    return Data(
        name=source.dataset,
        note=f"{source.note}: {counts} images",
        train_images=train_images.to(device),
        train_labels=train_labels.to(device),
        test_images=images.test_images.to(device),
        test_labels=images.test_labels.to(device),
        validation_images=None if validation is None else images.train_images[validation].to(device),
        validation_labels=None if validation is None else images.train_labels[validation].to(device),
        mean=mean.to(device),
        std=std.to(device),
        class_names=images.class_names,
    )


def split(labels: Tensor, train: int, validation: int) -> tuple[Tensor | slice, Tensor | None]:
    """Return the indices of the training and the validation images, the same for every run and seed.

    `train` 0 means all that are left. Both parts hold the classes in their shares, so that few images still teach all.
    """
    if not train and not validation:
        return slice(None), None
    order = readers.balanced_order(labels)
    held_out, left = order[:validation], order[validation:]
    return left[: train or None], held_out if validation else None


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel in units of full brightness, float32 (channels,)."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp_min(1e-12).sqrt()
    return mean.float(), std.float()
