"""Say which tensors of a model are pruned: the weights of convolutions and linear layers, never biases and norms."""

from __future__ import annotations

from torch import nn


def prunable_parameters(model: nn.Module, prune_first: bool = True, prune_last: bool = True) -> dict[str, nn.Parameter]:
    """Return the weights that pruning may touch, by name, in the order of the model.

    Args:
        model (nn.Module): any module.
        prune_first (bool): whether the first convolution or linear layer takes part. Default: True.
        prune_last (bool): whether the last one, the classifier, takes part. Default: True.

    Returns:
        dict of str to nn.Parameter: weights of Linear, Conv1d, Conv2d and Conv3d that require a gradient.

    Example::

        weights = prunable_parameters(model)
        print(sum(weight.numel() for weight in weights.values()), "weights may be pruned")
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
