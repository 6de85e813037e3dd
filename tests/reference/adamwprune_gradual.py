"""AdamWPrune, gradual mode: AdamW that prunes by its own states, with dense states and boolean masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.reference.ranking import caps_of, lowest, prune_counts
from tests.reference.schedule import Ramp

CRITERIA = {  # importance of a weight w with bias-corrected moments m and v; the lowest are pruned first
    "fisher": lambda w, m, v, a: w.abs() * v**a,
    "first_order": lambda w, m, v, a: (w * m).abs(),
    "movement": lambda w, m, v, a: -w * m,
    "hybrid": lambda w, m, v, a: (w * m).abs() * w.abs() / (v.sqrt() + 1e-8),
}


class Gradual:
    """Settings as of AdamWPrune. Tensors of two and more dimensions are pruned."""

    def __init__(self, weights: list[Tensor], ramp: Ramp, **settings: Any) -> None:
        self.weights, self.ramp, self.settings = weights, ramp, settings
        self.m, self.v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        self.alive = [torch.ones_like(w, dtype=torch.bool) for w in weights]
        self.t = 0

    def step(self, gradients: list[Tensor]) -> None:
        s, (beta1, beta2) = self.settings, self.settings["betas"]
        self.t += 1
        for w, m, v, alive, g in zip(self.weights, self.m, self.v, self.alive, gradients, strict=True):
            m.copy_(beta1 * m + (1 - beta1) * g)
            v.copy_(beta2 * v + (1 - beta2) * g**2)
            m_hat, v_hat = m / (1 - beta1**self.t), v / (1 - beta2**self.t)
            w.copy_(w - s["lr"] * s["weight_decay"] * w - s["lr"] * m_hat / (v_hat.sqrt() + s["eps"]))
            for tensor in (w, m, v):
                tensor[~alive] = 0
        if self.ramp.is_update(self.t) and any(w.dim() >= 2 for w in self.weights):
            self.prune()

    def importance(self, i: int) -> Tensor:
        """Scores of the survivors of a tensor, in order."""
        s, (beta1, beta2) = self.settings, self.settings["betas"]
        w, m, v = (tensor[self.alive[i]].float() for tensor in (self.weights[i], self.m[i], self.v[i]))
        return CRITERIA[s["criterion"]](w, m / (1 - beta1**self.t), v / (1 - beta2**self.t), s["exponent"])

    def prune(self) -> None:
        """Of all survivors the least important ones go, as many as the ramp asks for, with their moments."""
        layers = [i for i, w in enumerate(self.weights) if w.dim() >= 2]
        scores, shapes = [self.importance(i) for i in layers], [self.weights[i].shape for i in layers]
        size, survivors = sum(x.numel() for x in shapes), sum(x.numel() for x in scores)
        prune = max(0, survivors - (size - round(self.ramp.sparsity(self.t) * size)))
        caps = caps_of(scores, shapes, self.settings["min_density"])
        counts = prune_counts(scores, shapes, prune, self.settings["ranking"], caps)
        for i, score, count in zip(layers, scores, counts, strict=True):
            self.alive[i][self.alive[i].clone()] = ~lowest(score, count)
            for tensor in (self.weights[i], self.m[i], self.v[i]):
                tensor[~self.alive[i]] = 0
