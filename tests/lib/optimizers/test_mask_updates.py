"""Which weights dynamic mode starts with, and which change places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks

SHAPES = ((12, 30), (40, 10), (7, 5))


def layers(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator) * 2.0**i) for i, shape in enumerate(SHAPES)]


def slopes(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1000 + seed)
    return [torch.randn(shape, generator=generator) * 1.5**-i for i, shape in enumerate(SHAPES)]


def optimizer_of(weights: list[Any], **changes) -> AdamWPrune:
    options = {"sparsity": 0.8, "end_step": 20, "update_interval": 4, "min_density": 0.0} | changes
    return AdamWPrune(weights, mode="dynamic", **options)


def step(optimizer: AdamWPrune, weights: list[nn.Parameter], gradients: list[Tensor | None]) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = None if gradient is None else gradient.clone()
    optimizer.step()


def masks_of(optimizer: AdamWPrune) -> list[Tensor]:
    """Which weights survive, by the bits: one that has just returned is still zero."""
    weights = optimizer.param_groups[0]["params"]
    return [masks.unpack(optimizer.state[weight]["mask"], 0, weight.numel()) for weight in weights]


def counts(optimizer: AdamWPrune) -> tuple[int, ...]:
    return tuple(int(mask.sum()) for mask in masks_of(optimizer))


@pytest.mark.parametrize("fused", [True, False])
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.5, 0.8, 0.95]))
def test_dynamic_mode_starts_with_the_weights_of_largest_sensitivity(fused: bool, seed: int, sparsity: float) -> None:
    weights, gradients = layers(seed), slopes(seed)
    scores = torch.cat([(w * g).detach().abs().flatten() for w, g in zip(weights, gradients, strict=True)])
    optimizer = optimizer_of(weights, sparsity=sparsity, fused=fused)
    step(optimizer, weights, gradients)
    found = torch.cat(masks_of(optimizer))
    keep = found.numel() - round(sparsity * found.numel())
    best = scores.argsort(descending=True)
    assert found.sum() >= keep - 3  # each layer keeps one weight, however little it matters
    assert scores[found].sort(descending=True).values[: keep - 3].equal(scores[best[: keep - 3]])


def test_sensitivities_that_16_bits_cannot_hold_are_told_apart() -> None:
    weights = [nn.Parameter((0.01 * weight.detach()).half()) for weight in layers(0)]
    gradients = [(1e-6 * gradient).half() for gradient in slopes(0)]
    products = [w.detach().float() * g.float() for w, g in zip(weights, gradients, strict=True)]
    scores = torch.cat([product.abs().flatten() for product in products])
    optimizer = optimizer_of(weights)
    step(optimizer, weights, gradients)
    found = torch.cat(masks_of(optimizer))
    assert scores[found].min() >= scores[~found].max()


@pytest.mark.parametrize("ranking", ["uniform", "erk"])
def test_a_ranking_by_shape_gives_each_layer_its_number_from_start_to_end(ranking: str) -> None:
    weights = layers(0)
    optimizer = optimizer_of(weights, ranking=ranking, regrowth=0.3)
    seen, chosen = set(), set()
    for seed in range(24):
        step(optimizer, weights, slopes(seed))
        seen.add(counts(optimizer))
        chosen.add(tuple(torch.cat(masks_of(optimizer)).tolist()))
    assert len(seen) == 1
    assert len(chosen) > 3


@pytest.mark.parametrize("ranking", ["global", "layer_adaptive"])
def test_otherwise_places_move_between_layers_and_their_total_stays(ranking: str) -> None:
    weights = layers(0)
    optimizer = optimizer_of(weights, ranking=ranking, regrowth=0.3)
    seen = set()
    for seed in range(24):
        step(optimizer, weights, slopes(seed))
        seen.add(counts(optimizer))
    assert len(seen) > 2
    assert {sum(numbers) for numbers in seen} == {795 - round(0.8 * 795)}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_least_important_leave_and_the_largest_gradients_return_wherever_they_are(seed: int, fused: bool) -> None:
    weights = layers(seed)
    optimizer = optimizer_of(weights, ranking="global", exponent=0.0, regrowth=0.5, start_step=4, lr=1e-6, fused=fused)
    for number in range(3):
        step(optimizer, weights, slopes(number))
    before, importance = torch.cat(masks_of(optimizer)), torch.cat([w.detach().abs().flatten() for w in weights])
    gradients = slopes(3)
    step(optimizer, weights, gradients)  # the fourth step: the first exchange, of half of the survivors
    after = torch.cat(masks_of(optimizer))
    size = torch.cat([g.abs().flatten() for g in gradients])
    left, back = before & ~after, after & ~before
    assert int(back.sum()) == int(left.sum()) == round(0.5 * int(before.sum()))
    assert size[back].min() >= size[~before & ~after].max()
    assert importance[left].max() <= importance[before & after].min()


def test_where_a_tensor_has_no_gradient_yet_the_start_goes_by_shape_and_magnitude() -> None:
    weights, gradients = layers(0), slopes(0)
    largest = [weight.detach().abs().flatten() for weight in weights]
    optimizer = optimizer_of(weights)
    step(optimizer, weights, [gradients[0], None, gradients[2]])
    for mask, magnitude in zip(masks_of(optimizer), largest, strict=True):
        assert magnitude[mask].min() >= magnitude[~mask].max()
    densities = [
        mask.double().mean() / (sum(shape) / (shape[0] * shape[1]))
        for mask, shape in zip(masks_of(optimizer), SHAPES, strict=True)
    ]
    assert max(densities) / min(densities) < 1.1  # in proportion to ERK's


def test_a_layer_without_a_gradient_neither_gives_nor_takes() -> None:
    weights = layers(0)
    optimizer = optimizer_of(weights, regrowth=0.5)
    for seed in range(3):
        step(optimizer, weights, slopes(seed))
    before = masks_of(optimizer)
    step(optimizer, weights, [slopes(3)[0], None, slopes(3)[2]])
    after = masks_of(optimizer)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


def test_a_gradient_that_is_no_number_is_told_with_the_name_of_its_layer() -> None:
    weights = layers(0)
    named = [(f"layer{i}", weight) for i, weight in enumerate(weights)]
    optimizer = optimizer_of(named, regrowth=0.5, start_step=2, update_interval=2)
    step(optimizer, weights, slopes(0))
    gradients = slopes(1)
    gradients[1][~masks_of(optimizer)[1].view(SHAPES[1])] = float("nan")  # of pruned weights, which only return by it
    with pytest.raises(ValueError, match=r"layer1 \(gradient\)"):
        step(optimizer, weights, gradients)
