"""AdamWPrune, lean mode: dense weights on a ramp, moments for those alone that are to survive."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.reference.ranking import between, caps_of, lowest, prune_counts
from tests.reference.schedule import Ramp


class Lean:
    """Settings as of AdamWPrune. All tensors are pruned."""

    def __init__(self, weights: list[Tensor], ramp: Ramp, **settings: Any) -> None:
        self.weights, self.ramp, self.settings = weights, ramp, settings
        self.m, self.v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        self.u: list[Any] = [0.0] * len(weights)  # second moments of the rows
        self.pruned = [torch.zeros_like(w, dtype=torch.bool) for w in weights]
        self.holds = [~pruned for pruned in self.pruned]  # weights with moments; the others live by their row's u
        self.t = 0
        self.choose([w.abs() for w in weights])

    def step(self, gradients: list[Tensor]) -> None:
        s, (beta1, beta2), ramp = self.settings, self.settings["betas"], self.ramp
        self.t += 1
        for i, (w, g, holds) in enumerate(zip(self.weights, gradients, self.holds, strict=True)):
            self.m[i] = torch.where(holds, beta1 * self.m[i] + (1 - beta1) * g, 0)
            rows = g.view(len(g), -1) if g.numel() > len(g) else g.view(1, -1)  # a row: the weights of one output
            self.u[i] = beta2 * self.u[i] + (1 - beta2) * (rows**2).mean(1, keepdim=True)
            by_row = self.u[i].expand(rows.shape).reshape(g.shape)  # v of a weight that is given moments later, too
            self.v[i] = torch.where(holds, beta2 * self.v[i] + (1 - beta2) * g**2, by_row)
            m_hat, v_hat = self.m[i] / (1 - beta1**self.t), self.v[i] / (1 - beta2**self.t)
            root = v_hat.sqrt() + s["eps"]
            change = torch.where(holds, m_hat / root, (g / root).clamp(-self.reach(), self.reach()))
            w.copy_(torch.where(self.pruned[i], 0, w - s["lr"] * (change + s["weight_decay"] * w)))
        if ramp.is_update(self.t) or (ramp.final and self.t <= ramp.start and self.t % ramp.interval == 0):
            v_hat = [v.float() / (1 - beta2**self.t) for v in self.v]
            scores = [w.float().abs() * v ** s["exponent"] for w, v in zip(self.weights, v_hat, strict=True)]
            self.choose([x.masked_fill(gone, -1) for x, gone in zip(scores, self.pruned, strict=True)])

    def reach(self) -> float:
        """How far step t of Adam takes a weight at most, whatever the gradients, in units of the learning rate."""
        shares = [[(1 - b) * b**k / (1 - b**self.t) for k in range(self.t)] for b in self.settings["betas"]]
        return math.sqrt(sum(a * a / b for a, b in zip(*shares, strict=True)))

    def choose(self, scores: list[Tensor]) -> None:
        """Prune what the ramp asks for. As many weights as survive in the end hold moments, the most important ones."""
        shapes, ranking = [w.shape for w in self.weights], self.settings["ranking"]
        caps = caps_of(scores, shapes, self.settings["min_density"])
        size, gone = sum(x.numel() for x in scores), [int(pruned.sum()) for pruned in self.pruned]
        now, at_end = round(self.ramp.sparsity(self.t) * size), round(self.ramp.final * size)
        without = between(gone, prune_counts(scores, shapes, at_end, ranking, caps), caps, at_end)
        prune = between(gone, prune_counts(scores, shapes, now, ranking, caps), without, now)
        for i, score in enumerate(scores):
            self.holds[i], self.pruned[i] = ~lowest(score, without[i]), lowest(score, prune[i])
            self.weights[i][self.pruned[i]] = 0
