"""Cut the batches that a run trains on and is evaluated on out of a data set that lies on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .dataset import Data
from .rng import generator
from .transforms import crop, flip, normalise

if TYPE_CHECKING:
    from ..config.run_config import RunConfig


def batch_size(data: Data, config: RunConfig) -> int:
    return min(config.batch_size, len(data.train_images))


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Count the whole batches: a ragged last one would be a second shape to compile for, and a noisier step."""
    return len(data.train_images) // batch_size(data, config)


def batches(data: Data, config: RunConfig, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the training batches of one epoch: normalised float images and labels.

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
            images = flip(images, flips[part])
        yield normalise(images, data), data.train_labels.index_select(0, rows)


def evaluation_batches(
    images: Tensor, labels: Tensor, data: Data, config: RunConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order, in large batches."""
    for part, answer in zip(images.split(config.eval_batch_size), labels.split(config.eval_batch_size), strict=True):
        yield normalise(part, data), answer
