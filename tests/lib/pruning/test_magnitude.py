"""Magnitude pruning."""

from __future__ import annotations

from lib.pruning import MagnitudePruner, masks
from tests.helpers.pruned_net import make, train


def test_magnitude_never_brings_a_weight_back() -> None:
    model, optimizer, pruner = make(MagnitudePruner)
    gone: set[tuple[str, int]] = set()
    for step in range(10):
        train(model, optimizer, pruner, range(step, step + 1))
        now = {
            (name, index)
            for name, bits in pruner.masks.items()
            for index in masks.unpack(bits, 0, pruner.weights[name].numel()).logical_not_().nonzero().view(-1).tolist()
        }
        assert gone <= now
        gone = now
