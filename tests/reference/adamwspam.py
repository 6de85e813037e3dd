"""AdamWSPAM: AdamW with spike-aware clipping and momentum reset (SPAM; Huang et al. 2025, arXiv 2501.06842)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Spam:
    """Settings as of AdamWSpam."""

    def __init__(self, weights: list[Tensor], **settings: Any) -> None:
        self.weights, self.settings = weights, settings
        self.m, self.v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        self.steps = 0  # all steps
        self.t = 0  # steps since the latest reset

    def step(self, gradients: list[Tensor]) -> None:
        s, (beta1, beta2) = self.settings, self.settings["betas"]
        interval, warmup = s["reset_interval"], s["reset_warmup"]
        if interval and self.steps and self.steps % interval == 0:
            for moment in (*self.m, *self.v):
                moment.zero_()
            self.t = 0
        self.steps += 1
        self.t += 1
        rate = s["lr"]
        if interval and self.steps > interval and self.t < warmup:
            rate *= (1 - math.cos(math.pi * self.t / warmup)) / 2
        for w, m, v, g in zip(self.weights, self.m, self.v, gradients, strict=True):
            if s["spike_threshold"]:
                limit = s["spike_threshold"] * v  # v = 0: nothing is known of this weight yet
                g = torch.where((g**2 > limit) & (v > 0), g.sign() * limit.sqrt(), g)
            m.copy_(beta1 * m + (1 - beta1) * g)
            v.copy_(beta2 * v + (1 - beta2) * g**2)
            m_hat, v_hat = m / (1 - beta1**self.t), v / (1 - beta2**self.t)
            w.copy_(w - rate * s["weight_decay"] * w - rate * m_hat / (v_hat.sqrt() + s["eps"]))
