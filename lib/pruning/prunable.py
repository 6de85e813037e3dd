"""Which tensors of a model are pruned: the weights of convolutions and linear layers, never biases and norms."""

from __future__ import annotations

from torch import nn


def prunable_parameters(model: nn.Module, prune_first: bool = True, prune_last: bool = True) -> dict[str, nn.Parameter]:
    """Weights that pruning may touch, by name, in the order of the model.

    Args:
        model: any module.
        prune_first: whether the first convolution or linear layer takes part.
        prune_last: whether the last one, the classifier, takes part.
    """
    weights: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            weight = module.get_parameter("weight")
            if weight.requires_grad:
                weights[f"{name}.weight" if name else "weight"] = weight
    names = list(weights)
    left_out = set(names[:1] if not prune_first else []) | set(names[-1:] if not prune_last else [])
    return {name: weight for name, weight in weights.items() if name not in left_out}
