"""Train with AdamWSpam: AdamW with spike-aware momentum reset (SPAM; Huang et al. 2025, arXiv 2501.06842)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from .adamw_step import adamw_step


class AdamWSpam(torch.optim.AdamW):
    """Train as AdamW, but cut single spikes out of the gradient and reset the moments now and then.

    ::

        where g^2 > theta * v and v > 0:   g <- sign(g) * sqrt(theta * v)      (v of the steps before)
        every reset_interval steps:        m <- 0, v <- 0, t <- 0
        for reset_warmup steps after it:   lr <- lr * (1 - cos(pi * k / reset_warmup)) / 2,  k = 1, 2, ...

    A first moment after a reset has g^2 = v / (1 - beta2), 1000 v at beta2 = 0.999: theta must be above that.
    Gradients are changed in place.

    Args:
        params, lr, betas, eps, weight_decay, foreach, fused, maximize: as in ``torch.optim.AdamW``.
        spike_threshold (float): theta; 0 switches the clipping off. Default: 5000.
        reset_interval (int): steps between two resets; 0 switches them off. Default: 500.
        reset_warmup (int): steps of warm-up after each reset. Default: 150.

    Raises:
        ValueError: naming the argument and its range.

    Example::

        optimizer = AdamWSpam(model.parameters(), lr=1e-3, reset_interval=500, reset_warmup=150)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        spike_threshold: float = 5000.0,
        reset_interval: int = 500,
        reset_warmup: int = 150,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if not 0.0 <= spike_threshold < float("inf"):
            raise ValueError(f"spike_threshold must be in [0, inf), got {spike_threshold}")
        if reset_interval < 0:
            raise ValueError(f"reset_interval must be at least 0, got {reset_interval}")
        if reset_warmup < 0:
            raise ValueError(f"reset_warmup must be at least 0, got {reset_warmup}")
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize, foreach=foreach, fused=fused)
        self.spike_threshold = spike_threshold
        self.reset_interval = reset_interval
        self.reset_warmup = reset_warmup
        self._step_supports_amp_scaling = False  # spikes are judged on unscaled gradients
        for group in self.param_groups:
            group.setdefault("steps", 0)  # in the group, so that state_dict carries it

    def __getstate__(self) -> dict[str, Any]:
        """Return what copy and pickle need: the base class knows of groups and states alone."""
        names = ("spike_threshold", "reset_interval", "reset_warmup", "_step_supports_amp_scaling")
        return super().__getstate__() | {name: getattr(self, name) for name in names}

    def step(self, closure: Any = None) -> Any:
        """Reset and clip as due, then take AdamW's step. Evaluate the closure, if any, first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        learning_rates = [group["lr"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                steps = group.setdefault("steps", 0)
                if self.reset_interval and steps and steps % self.reset_interval == 0:
                    self._reset(group)
                group["lr"] = group["lr"] * self._warmup(steps)
                if self.spike_threshold:
                    self._clip_spikes(group)
            adamw_step(self)
        finally:
            for group, lr in zip(self.param_groups, learning_rates, strict=True):
                group["lr"] = lr
        for group in self.param_groups:
            group["steps"] += 1
        return loss

    def _warmup(self, steps: int) -> float:
        if not self.reset_interval or steps < self.reset_interval:
            return 1.0
        since = steps % self.reset_interval + 1
        return 1.0 if since >= self.reset_warmup else 0.5 * (1.0 - math.cos(math.pi * since / self.reset_warmup))

    @torch.no_grad()
    def _reset(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            for name in ("exp_avg", "exp_avg_sq", "step"):
                if name in self.state[weight]:
                    self.state[weight][name].zero_()

    @torch.no_grad()
    def _clip_spikes(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.grad is None or "exp_avg_sq" not in self.state[weight]:
                continue
            limit = self.state[weight]["exp_avg_sq"].mul(self.spike_threshold).sqrt_()
            # v = 0 means that nothing is known of this weight yet, not that every gradient is a spike
            limit.masked_fill_(limit == 0, float("inf"))
            weight.grad.clamp_(-limit, limit)
