from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.pruning import masks
from lib.pruning.magnitude import MagnitudePruner
from lib.pruning.movement import MovementPruner
from lib.pruning.prunable import prunable_parameters
from lib.pruning.pruner import MaskedPruner, Pruner
from lib.pruning.schedule import CubicSchedule


def net() -> nn.Sequential:
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(8, 1, 4, 4, generator=generator)
        optimizer.zero_grad()
        model(images).square().sum().backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()


def make(method: type[MaskedPruner], ranking: str = "global", end: int = 8) -> tuple[nn.Module, Any, MaskedPruner]:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = CubicSchedule(0.7, 2, end, 2)
    return model, optimizer, method(model, optimizer, prunable_parameters(model), schedule, ranking, 0.05)


def test_convolutions_and_linear_layers_are_prunable_norms_and_biases_are_not() -> None:
    assert list(prunable_parameters(net())) == ["0.weight", "3.weight", "5.weight"]
    assert list(prunable_parameters(net(), prune_first=False, prune_last=False)) == ["3.weight"]


def test_a_frozen_layer_is_not_prunable() -> None:
    model = net()
    model[3].requires_grad_(False)
    assert list(prunable_parameters(model)) == ["0.weight", "5.weight"]


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


class OneWeightLayer(nn.Module):
    """Loss = sum(w * x), so that the gradient of w is x."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(len(values), 1, bias=False)
        self.layer.weight.data = torch.tensor([values])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_movement_scores_are_minus_gradient_times_weight_summed_up() -> None:
    model = OneWeightLayer([1.0, -1.0, 2.0, -2.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    pruner = MovementPruner(model, optimizer, prunable_parameters(model), CubicSchedule(0.5, 0, 2, 1), "global", 0.0)
    model(torch.tensor([[1.0, 1.0, -1.0, 0.5]])).sum().backward()
    pruner.before_step()
    optimizer.step()
    assert pruner.learned_scores["layer.weight"].tolist() == [[-1.0, 1.0, 2.0, 1.0]]


def test_movement_brings_a_weight_back_with_the_value_it_had() -> None:
    model = OneWeightLayer([1.0, 1.0, 1.0, 1.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    pruner = MovementPruner(model, optimizer, prunable_parameters(model), CubicSchedule(0.5, 0, 3, 1), "global", 0.0)
    inputs = [torch.tensor([[3.0, 2.0, -1.0, -1.0]]), torch.tensor([[-9.0, 2.0, 0.0, 0.0]]), torch.zeros(1, 4)]
    alive = []
    for batch in inputs:
        optimizer.zero_grad()
        model(batch).sum().backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()
        alive.append(model.layer.weight.data[0].ne(0).tolist())
    assert alive[0] == [False, True, True, True]  # cubic ramp: round(0.5 * 19/27 * 4) = 1 weight is gone
    assert alive[1][0] is True
    assert model.layer.weight.data[0, 0].item() == pytest.approx(1.0)


def test_gradients_of_pruned_weights_are_zero_under_movement() -> None:
    model, optimizer, pruner = make(MovementPruner)
    train(model, optimizer, pruner, range(9))  # one step past the last update: the mask was this one all along
    weight = model[3].weight
    assert weight.grad is not None
    assert weight.grad[weight == 0].eq(0).all()


def test_movement_frees_scores_and_values_when_the_ramp_ends() -> None:
    model, optimizer, pruner = make(MovementPruner)
    size = sum(weight.numel() for weight in pruner.weights.values())
    bits = sum(masks.packed_size(weight.numel()) for weight in pruner.weights.values())
    train(model, optimizer, pruner, range(7))
    assert pruner.memory_bytes()["pruning_state"] == 8 * size + bits
    train(model, optimizer, pruner, range(7, 9))
    assert pruner.memory_bytes()["pruning_state"] == bits
    assert pruner.memory_bytes()["optimizer_state"] == 4 * sum(p.numel() for p in model.parameters())


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
