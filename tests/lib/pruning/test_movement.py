"""Movement pruning: scores, weights that come back, and what is freed at the end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lib.pruning import CubicSchedule, MovementPruner, masks, prunable_parameters
from tests.helpers.pruned_net import make, train


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


def test_momentum_moves_a_pruned_weight_between_updates_too() -> None:
    model = OneWeightLayer([1.0, 1.0, 1.0, 1.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = CubicSchedule(0.5, 0, 4, 2)
    pruner = MovementPruner(model, optimizer, prunable_parameters(model), schedule, "global", 0.0)
    values = []
    for batch in [torch.tensor([[1.0, 0.0, 0.0, 0.0]])] * 2 + [torch.zeros(1, 4)]:
        optimizer.zero_grad()
        model(batch).sum().backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()
        values.append((model.layer.weight + pruner.pruned_values["layer.weight"])[0, 0].item())
    # velocities 1, 1.5 and, once it is pruned by the update at step 2, 0.75
    assert model.layer.weight[0, 0] == 0
    assert values == pytest.approx([0.9, 0.75, 0.675])
