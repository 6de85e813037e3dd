"""Crop and normalisation equal their definitions pixel by pixel."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lib.data import loader, transforms
from tests.helpers.image_files import small_data
from tests.helpers.tiny_runs import tiny


def test_images_are_normalised_per_channel() -> None:
    source, config = small_data(), tiny(batch_size=64)
    images, labels = next(loader.batches(source, config, 0))
    expected = (source.train_images[labels].double() / 255 - source.mean.view(1, 3, 1, 1)) / source.std.view(1, 3, 1, 1)
    assert torch.allclose(images.double(), expected, atol=1e-5)
    assert images.mean().abs() < 1e-4 and (images.std() - 1).abs() < 1e-3


def test_crop_cuts_the_black_padded_image_at_its_corner() -> None:
    images = small_data(81).train_images
    top, left = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    cut = transforms.crop(images, 4, top.flatten(), left.flatten())
    padded = F.pad(images, (4, 4, 4, 4))
    for i, (y, x) in enumerate((y, x) for y in range(9) for x in range(9)):
        assert torch.equal(cut[i], padded[i, :, y : y + 32, x : x + 32])
