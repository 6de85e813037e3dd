"""Prune by magnitude (Han et al. 2015, arXiv 1506.02626; gradual as in arXiv 1710.01878)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import masks
from .pruner import MaskedPruner


class MagnitudePruner(MaskedPruner):
    """Keep the weights of largest ``|w|``.

    Once pruned, a weight stays pruned: it scores below every survivor, even one that is zero.

    Args:
        model, optimizer, weights: as for ``Pruner``.
        schedule (CubicSchedule): when and how much is pruned.
        ranking (str): ``global``, ``layer_adaptive``, ``uniform`` or ``erk``, see ``Selection.prune_counts``.
        min_density (float): fraction of its weights that every layer keeps at least, in [0, 1].

    Raises:
        ValueError: the floors do not leave enough weights to prune.

    Example::

        schedule = CubicSchedule(final=0.9, start=0, end=5000, interval=100)
        pruner = MagnitudePruner(model, optimizer, prunable_parameters(model), schedule, "layer_adaptive", 0.01)
        for images, labels in batches:
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            pruner.before_step()
            optimizer.step()
            pruner.after_step()
    """

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        magnitudes = masks.flat(self.weights[name].data)[start:stop].float().abs()
        if name in self.masks:
            pruned = masks.unpack(self.masks[name], start, stop).logical_not_()
            magnitudes = torch.where(pruned, -1.0, magnitudes)
        return magnitudes
