"""Crop, flip and normalise whole batches of images where they lie, on a CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from .dataset import Data


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


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Turn the chosen images left to right. chosen: int64 (n,), 0 or 1."""
    count = len(images)
    both = torch.cat([images, images.flip(-1)])  # faster on a CPU than torch.where, which compares pixel by pixel
    return both.index_select(0, torch.arange(count, device=images.device) + count * chosen)


def normalise(images: Tensor, data: Data) -> Tensor:
    """Convert uint8 to float32 with mean 0 and deviation 1 per channel.

    A model in channels_last takes the images as they are: its first convolution brings them into that order.
    """
    return images.float().mul_(data.scale).add_(data.shift)
