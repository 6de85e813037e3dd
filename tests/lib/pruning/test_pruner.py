"""What all pruning methods share: exact sparsity, zeros that stay, and resuming."""

from __future__ import annotations

import io

import pytest
import torch

from lib.pruning import CubicSchedule, MagnitudePruner, MovementPruner, prunable_parameters
from lib.pruning.pruner import MaskedPruner, Pruner
from tests.helpers.pruned_net import make, net, train


@pytest.mark.parametrize("method", [MagnitudePruner, MovementPruner])
def test_a_frozen_layer_is_left_as_it_is_and_not_counted(method: type[MaskedPruner]) -> None:
    model = net()
    model[3].requires_grad_(False)
    before = model[3].weight.clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    pruner = method(model, optimizer, prunable_parameters(model), CubicSchedule(0.5, 2, 8, 2), "global", 0.05)
    train(model, optimizer, pruner, range(12))
    assert torch.equal(model[3].weight, before)
    size = sum(weight.numel() for weight in pruner.weights.values())
    assert size == 36 + 12 and pruner.sparsity() == 0.5


@pytest.mark.parametrize("method", [MagnitudePruner, MovementPruner])
@pytest.mark.parametrize("ranking", ["global", "layer_adaptive", "uniform", "erk"])
def test_sparsity_is_exact_and_pruned_weights_stay_zero(method: type[MaskedPruner], ranking: str) -> None:
    model, optimizer, pruner = make(method, ranking)
    size = sum(weight.numel() for weight in pruner.weights.values())
    train(model, optimizer, pruner, range(12))
    assert pruner.sparsity() == round(0.7 * size) / size
    assert all(part < 1 for part in pruner.layer_sparsity().values())
    assert pruner.sparsity_total() < pruner.sparsity()


@pytest.mark.parametrize("method", [MagnitudePruner, MovementPruner])
@pytest.mark.parametrize("stop", [1, 5, 10])
def test_resumed_training_goes_on_bit_for_bit(method: type[MaskedPruner], stop: int) -> None:
    whole, optimizer, pruner = make(method)
    train(whole, optimizer, pruner, range(14))

    model, optimizer, pruner = make(method)
    train(model, optimizer, pruner, range(stop))
    saved = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), pruner.state_dict()], saved)
    saved.seek(0)
    states = torch.load(saved, weights_only=True)
    model, optimizer, pruner = make(method)
    for part, state in zip((model, optimizer, pruner), states, strict=True):
        part.load_state_dict(state)
    train(model, optimizer, pruner, range(stop, 14))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


def test_floors_that_leave_too_little_are_named() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="min_density"):
        MagnitudePruner(model, optimizer, prunable_parameters(model), CubicSchedule(0.9, 0, 5, 1), "global", 0.5)


def test_without_pruning_zeros_are_still_counted() -> None:
    model = net()
    model[3].weight.data[0] = 0
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), prunable_parameters(model))
    assert pruner.sparsity() == 16 / (36 + 96 + 12)
    assert pruner.phase(5) == "train"
