"""Batches hold the images they should."""

from __future__ import annotations

import torch

from lib.data import loader, transforms
from tests.helpers.image_files import small_data
from tests.helpers.tiny_runs import tiny


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    source, config = small_data(), tiny(batch_size=16)
    first, second = (
        [int(x) for _, labels in loader.batches(source, config, epoch) for x in labels] for epoch in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second != sorted(second)


def test_batches_depend_on_seed_and_epoch_alone_and_go_on_in_mid_epoch() -> None:
    source, config = small_data(), tiny(batch_size=16, crop_padding=4, flip=True)
    whole = list(loader.batches(source, config, 3))
    torch.manual_seed(99)  # the global generator plays no part
    rest = list(loader.batches(source, config, 3, start_step=2))
    assert len(whole) == 4 and len(rest) == 2
    for (images, labels), (same, answers) in zip(whole[2:], rest, strict=True):
        assert torch.equal(images, same) and torch.equal(labels, answers)
    other = next(loader.batches(source, tiny(batch_size=16, seed=1), 3))
    assert not torch.equal(other[1], whole[0][1])


def test_about_half_of_the_images_are_mirrored_and_none_is_changed_otherwise() -> None:
    source, config = small_data(256), tiny(batch_size=256, flip=True)
    images, labels = next(loader.batches(source, config, 0))
    plain = transforms.normalise(source.train_images[labels], source)
    same = (images == plain).flatten(1).all(1)
    mirrored = (images == plain.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 90 < int(mirrored.sum()) < 166  # 128 +- 4.75 deviations


def test_fewer_images_than_a_batch_make_one_smaller_batch() -> None:
    source, config = small_data(10), tiny(batch_size=64)
    assert loader.steps_per_epoch(source, config) == 1
    assert len(next(loader.batches(source, config, 0))[0]) == 10


def test_evaluation_sees_every_image_once_in_order() -> None:
    source, config = small_data(), tiny(eval_batch_size=24)
    parts = list(loader.evaluation_batches(source.test_images, source.test_labels, source, config))
    assert [len(images) for images, _ in parts] == [24, 24, 16]
    assert torch.equal(torch.cat([labels for _, labels in parts]), source.test_labels)
