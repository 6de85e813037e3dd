"""Datasets as uint8 tensors on the device, and batches cut, flipped and normalised there.

usage: python -m lib.data.dataset [NAME=VALUE ...]

Fetches and verifies the data of every run of the configured matrix; image folders are decoded and cached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..training.seeding import generator
from . import readers
from .sources import DataError, Source, check

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
    """A whole dataset on one device. Images: uint8 (n, channels, 32, 32); labels: int64 (n,)."""

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
        """Normalised pixel = byte * scale + shift; shape (1, channels, 1, 1)."""
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
    """Read, split and move the dataset of a run. Raises DataError with one sentence where it cannot."""
    source = check_config(config)
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


def check_config(config: RunConfig) -> Source:
    """`datacheck.check` for one run."""
    return check(config.dataset, config.data_dir, config.download, config.train_images, config.validation_images)


def split(labels: Tensor, train: int, validation: int) -> tuple[Tensor | slice, Tensor | None]:
    """Indices of the training and the validation images, the same for every run and seed.

    `train` 0 means all that are left. Both parts hold the classes in their shares, so that few images still teach all.
    """
    if not train and not validation:
        return slice(None), None
    order = readers.balanced_order(labels)
    held_out, left = order[:validation], order[validation:]
    return left[: train or None], held_out if validation else None


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel in units of full brightness, float32 (channels,)."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp_min(1e-12).sqrt()
    return mean.float(), std.float()


def batch_size(data: Data, config: RunConfig) -> int:
    return min(config.batch_size, len(data.train_images))


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Whole batches only: a ragged last one would be a second shape to compile for, and a noisier step."""
    return len(data.train_images) // batch_size(data, config)


def batches(data: Data, config: RunConfig, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """The training batches of one epoch: normalised float images and labels.

    All that is random in an epoch is drawn at its start from (seed, epoch), on the CPU: resuming in mid-epoch needs
    no state, every device sees the same images, and there is one transfer an epoch.
    """
    count, size, device = len(data.train_images), batch_size(data, config), data.train_images.device
    random = generator(config.seed, epoch)
    order = torch.randperm(count, generator=random).to(device)
    corners = torch.randint(2 * config.crop_padding + 1, (2, count), generator=random).to(device)
    flips = torch.randint(2, (count,), generator=random).to(device)
    for step in range(start_step, steps_per_epoch(data, config)):
        part = slice(step * size, (step + 1) * size)
        rows = order[part]
        images = data.train_images.index_select(0, rows)
        if config.crop_padding:
            images = crop(images, config.crop_padding, corners[0, part], corners[1, part])
        if config.flip:
            images = mirror(images, flips[part])
        yield normalise(images, data), data.train_labels.index_select(0, rows)


def crop(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Cut each image out of its black-padded self at its own corner. top, left: int64 (n,), 0 to 2*padding.

    Padding comes before normalisation, as in torchvision's usual RandomCrop, ToTensor, Normalize: the border is
    black, not of mean brightness.
    """
    count, channels, side, _ = images.shape
    width = side + 2 * padding
    flat = F.pad(images, (padding,) * 4).flatten()
    # Every row of the result is `side` neighbours in `flat`; to select them as rows of an overlapping view is three
    # times as fast on a CPU as to index pixels.
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1) * width**2
    corners = (top * width + left).view(count, 1, 1)
    rows = planes + corners + torch.arange(side, device=images.device) * width
    return flat.unfold(0, side, 1).index_select(0, rows.flatten()).view_as(images)


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Turn the chosen images left to right. chosen: int64 (n,), 0 or 1."""
    count = len(images)
    both = torch.cat([images, images.flip(-1)])  # faster on a CPU than torch.where, which compares pixel by pixel
    return both.index_select(0, torch.arange(count, device=images.device) + count * chosen)


def normalise(images: Tensor, data: Data) -> Tensor:
    """uint8 to float32 with mean 0 and deviation 1 per channel.

    A model in channels_last takes the images as they are: its first convolution brings them into that order.
    """
    return images.float().mul_(data.scale).add_(data.shift)


def evaluation_batches(
    images: Tensor, labels: Tensor, data: Data, config: RunConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, in large batches."""
    for part, answer in zip(images.split(config.eval_batch_size), labels.split(config.eval_batch_size), strict=True):
        yield normalise(part, data), answer


def main(arguments: list[str]) -> int:
    """`make data`: exit 0, or 2 with one sentence for each dataset that is not usable."""
    from ..config.errors import ConfigError
    from ..config.matrix import load_matrix

    try:
        wrong = [argument for argument in arguments if "=" not in argument]
        if wrong:
            raise ConfigError(f"{argument}: expected NAME=VALUE" for argument in wrong)
        pairs = [argument.split("=", 1) for argument in arguments]
        _, runs = load_matrix(overrides=dict(pairs))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    failures = 0
    for config in {(run.dataset, run.data_dir): run for run in runs}.values():
        try:
            print(load(config, torch.device("cpu")).note, flush=True)
        except DataError as error:
            print(error, file=sys.stderr)
            failures += 1
    return 2 if failures else 0


if __name__ == "__main__":
    if "--help" in sys.argv[1:]:
        sys.exit(print(__doc__))
    sys.exit(main(sys.argv[1:]))
