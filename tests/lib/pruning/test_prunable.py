"""Which weights pruning may touch."""

from __future__ import annotations

from lib.pruning import prunable_parameters
from tests.helpers.pruned_net import net


def test_convolutions_and_linear_layers_are_prunable_norms_and_biases_are_not() -> None:
    assert list(prunable_parameters(net())) == ["0.weight", "3.weight", "5.weight"]
    assert list(prunable_parameters(net(), prune_first=False, prune_last=False)) == ["3.weight"]


def test_a_frozen_layer_is_not_prunable() -> None:
    model = net()
    model[3].requires_grad_(False)
    assert list(prunable_parameters(model)) == ["0.weight", "5.weight"]
