"""Movement pruning (Sanh, Wolf, Rush 2020, arXiv 2005.07683) with SGD: learned scores, a straight-through mask."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.ranking import caps_of, lowest, prune_counts
from tests.reference.schedule import Ramp


class Movement:
    """The network computes with ``weight * mask``. Momentum alone moves the other weights, which may come back."""

    def __init__(self, weights: list[Tensor], ramp: Ramp, ranking: str, min_density: float) -> None:
        self.weights, self.ramp, self.ranking, self.min_density = weights, ramp, ranking, min_density
        self.scores = [torch.zeros_like(w) for w in weights]
        self.masks = [torch.ones_like(w, dtype=torch.bool) for w in weights]
        self.velocity = [torch.zeros_like(w) for w in weights]
        self.t = 0

    def effective(self) -> list[Tensor]:
        return [w * mask for w, mask in zip(self.weights, self.masks, strict=True)]

    def step(self, gradients: list[Tensor], lr: float, base_lr: float, momentum: float, weight_decay: float) -> None:
        """One step of SGD, given the gradients with respect to ``effective()``."""
        self.t += 1
        for w, s, mask, velocity, g in zip(
            self.weights, self.scores, self.masks, self.velocity, gradients, strict=True
        ):
            s -= lr / base_lr * g * w  # pruned weights are scored as well
            velocity.mul_(momentum).add_((g + weight_decay * w) * mask)
            w -= lr * velocity
        if self.ramp.is_update(self.t):
            shapes = [w.shape for w in self.weights]
            prune = round(self.ramp.sparsity(self.t) * sum(shape.numel() for shape in shapes))
            caps = caps_of(self.scores, shapes, self.min_density)
            counts = prune_counts(self.scores, shapes, prune, self.ranking, caps)
            self.masks = [~lowest(s, count) for s, count in zip(self.scores, counts, strict=True)]
