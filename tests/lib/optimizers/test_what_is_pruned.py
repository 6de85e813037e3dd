"""By default AdamWPrune prunes what is usually pruned: the weights of linear layers and convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lib.optimizers import AdamWPrune
from lib.pruning import prunable_parameters

RAMP: dict[str, Any] = {"sparsity": 0.5, "end_step": 4, "update_interval": 2}


class Everything(nn.Module):
    """A model with the kinds of parameters that are not to be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 8)
        self.positions = nn.Parameter(torch.randn(1, 10, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.scale = nn.Parameter(torch.ones(8))
        self.normalised = weight_norm(nn.Linear(8, 8))
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.out = nn.Linear(8, 8)
        self.head = nn.Linear(8, 40, bias=False)
        self.head.weight = self.words.weight


def pruned_names(optimizer: AdamWPrune, model: nn.Module) -> set[str]:
    for _ in range(6):
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return {name for name, weight in model.named_parameters() if "mask" in optimizer.state[weight]}


def test_of_a_model_only_linear_and_convolution_weights_are_pruned() -> None:
    model = Everything()
    optimizer = AdamWPrune(model, **RAMP)
    assert pruned_names(optimizer, model) == {"depthwise.weight", "out.weight"}
    assert optimizer.sparsity() == 0.5


def test_a_model_and_its_groups_hold_every_parameter_once() -> None:
    model = Everything()
    optimizer = AdamWPrune(model, **RAMP)
    held = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    assert all(group["param_names"] for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("shape", "pruned"),
    [
        ((8, 8), True),
        ((8, 1, 3, 3), True),
        ((1, 8), False),
        ((8, 1), False),
        ((1, 10, 8), False),
        ((8, 1, 1, 1), False),
    ],
)
def test_of_bare_tensors_those_with_rows_and_columns_are_pruned(shape: tuple[int, ...], pruned: bool) -> None:
    weight = nn.Parameter(torch.randn(shape))
    optimizer = AdamWPrune([weight, nn.Parameter(torch.randn(4, 4))], **RAMP)
    weights: list[Tensor] = [tensor.weight for tensor in optimizer.prunable_tensors()]
    assert any(each is weight for each in weights) == pruned


def test_a_weight_shared_with_an_embedding_is_prunable_only_if_asked_for() -> None:
    model = Everything()
    assert "head.weight" not in prunable_parameters(model)
    assert "head.weight" in prunable_parameters(model, tied_embeddings=True)
