"""AdamWPrune with regrowth, and dynamic mode: survivors are exchanged for pruned weights of large gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from tests.reference.adamwprune_gradual import Gradual
from tests.reference.ranking import caps_of, lowest, prune_counts
from tests.reference.schedule import Ramp

BY_SHAPE = ("uniform", "erk")


class Regrowing(Gradual):
    """Settings as of AdamWPrune. All tensors are pruned, in dynamic mode before the first step."""

    def __init__(self, weights: list[Tensor], ramp: Ramp, regrowth: float, dynamic: bool, **settings: Any) -> None:
        super().__init__(weights, ramp, **settings)
        self.regrowth, self.dynamic, self.shapes = regrowth, dynamic, [w.shape for w in weights]

    def step(self, gradients: list[Tensor]) -> None:
        self.gradients = gradients
        if self.dynamic and self.t == 0:  # the largest |w g| survive: SNIP (arXiv 1810.02340)
            scores = [(w.float() * g.float()).abs() for w, g in zip(self.weights, gradients, strict=True)]
            ranking = self.settings["ranking"] if self.settings["ranking"] in BY_SHAPE else "global"
            prune = round(self.ramp.final * sum(shape.numel() for shape in self.shapes))
            caps = caps_of(scores, self.shapes, self.settings["min_density"])
            counts = prune_counts(scores, self.shapes, prune, ranking, caps)
            self.alive = [~lowest(score, count) for score, count in zip(scores, counts, strict=True)]
        super().step(gradients)
        if self.dynamic and self.t <= self.ramp.start and self.t % self.ramp.interval == 0:
            self.prune()

    def prune(self) -> None:
        """As without regrowth; then a share of the survivors gives way to as many of those pruned before."""
        before = [alive.clone() for alive in self.alive]
        super().prune()
        share = self.regrowth * (1 + math.cos(math.pi * self.ramp.progress(self.t))) / 2  # RigL (arXiv 1911.11134)
        scores = [self.importance(i) for i in range(len(self.weights))]
        dead = [g[~alive].abs() for g, alive in zip(self.gradients, before, strict=True)]
        staying, absent = ([x.numel() for x in tensors] for tensors in (scores, dead))
        room = caps_of(scores, self.shapes, self.settings["min_density"])
        if self.settings["ranking"] in BY_SHAPE:
            leaving = returning = np.minimum(np.minimum(np.rint(np.multiply(share, staying)), absent), room).astype(int)
        else:
            total = min(round(share * sum(staying)), sum(absent), sum(room))
            leaving = prune_counts(scores, self.shapes, total, self.settings["ranking"], room)
            returning = np.subtract(absent, prune_counts(dead, self.shapes, sum(absent) - total, "global", absent))
        for i, score in enumerate(scores):
            self.alive[i][self.alive[i].clone()] = ~lowest(score, leaving[i])
            for tensor in (self.weights[i], self.m[i], self.v[i]):
                tensor[~self.alive[i]] = 0
            back = ~before[i]
            back[~before[i]] = ~lowest(dead[i], absent[i] - returning[i])
            self.alive[i] |= back
            self.v[i][back] = (1 - self.settings["betas"][1] ** self.t) * self.gradients[i][back] ** 2
