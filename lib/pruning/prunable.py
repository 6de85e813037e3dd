"""Say which tensors of a model are pruned: the weights of convolutions and linear layers, never biases and norms."""

from __future__ import annotations

from typing import Any

from torch import nn


def prunable_parameters(
    model: nn.Module, prune_first: bool = True, prune_last: bool = True, tied_embeddings: bool = False
) -> dict[str, nn.Parameter]:
    """Return the weights that pruning may touch, by name, in the order of the model.

    Args:
        model (nn.Module): any module.
        prune_first (bool): whether the first convolution or linear layer takes part. Default: True.
        prune_last (bool): whether the last one, the classifier, takes part. Default: True.
        tied_embeddings (bool): whether a weight that an embedding shares takes part. Rows of rare words have small
            gradients and would go first. Default: False.

    Returns:
        dict of str to nn.Parameter: weights of Linear, Conv1d, Conv2d and Conv3d that require a gradient.

    Example::

        weights = prunable_parameters(model)
        print(sum(weight.numel() for weight in weights.values()), "weights may be pruned")
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    shared = set() if tied_embeddings else {id(embedding.weight) for embedding in embeddings}
    weights: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            weight = dict(module.named_parameters(recurse=False)).get("weight")  # a parametrization has put it away
            if weight is not None and weight.requires_grad and id(weight) not in shared:
                weights[f"{name}.weight" if name else "weight"] = weight
    names = list(weights)
    left_out = set(names[:1] if not prune_first else []) | set(names[-1:] if not prune_last else [])
    return {name: weight for name, weight in weights.items() if name not in left_out}


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters of a model as groups for an optimizer: the prunable ones, and the others.

    Args:
        model (nn.Module): any module.

    Returns:
        list of dict: at most two groups of named parameters that require a gradient, with the key ``prunable``.
    """
    prunable = {id(weight) for weight in prunable_parameters(model).values()}
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups = [
        {"params": [(name, weight) for name, weight in named if (id(weight) in prunable) == chosen], "prunable": chosen}
        for chosen in (True, False)
    ]
    return [group for group in groups if group["params"]]
