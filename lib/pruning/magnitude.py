"""Magnitude pruning (Han et al. 2015, arXiv 1506.02626; gradual as in arXiv 1710.01878)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import masks
from .pruner import MaskedPruner


class MagnitudePruner(MaskedPruner):
    """Score ``|w|``. Once pruned, a weight stays pruned: it scores below every survivor, even one that is zero."""

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        magnitudes = masks.flat(self.weights[name].data)[start:stop].float().abs()
        if name in self.masks:
            pruned = masks.unpack(self.masks[name], start, stop).logical_not_()
            magnitudes = torch.where(pruned, -1.0, magnitudes)
        return magnitudes
