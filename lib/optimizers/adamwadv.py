"""Train with AdamWAdv: AdamW with AMSGrad and clipping of the gradient norm."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from .adamw_step import adamw_step


class AdamWAdv(torch.optim.AdamW):
    """Train as AdamW, with a second moment that never shrinks and a gradient that never exceeds a norm.

    ::

        g <- g * min(1, clip_norm / ||g||)             (all parameters together; Pascanu et al. 2013, arXiv 1211.5063)
        v_max <- max(v_max, v_hat), used instead of v_hat (AMSGrad; Reddi et al. 2018, arXiv 1904.09237)

    It is meant for a cosine schedule of the learning rate, which the training loop sets. Gradients are scaled in place.

    Args:
        params, lr, betas, eps, weight_decay, foreach, fused, maximize: as in ``torch.optim.AdamW``.
        clip_norm (float): largest Euclidean norm of the whole gradient; 0 switches clipping off. Default: 1.
        amsgrad (bool): whether to keep the running maximum of the second moment (4 more bytes a weight). Default: True.

    Raises:
        ValueError: ``clip_norm`` is negative or not finite.

    Example::

        optimizer = AdamWAdv(model.parameters(), lr=1e-3, clip_norm=1.0)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        clip_norm: float = 1.0,
        amsgrad: bool = True,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if not 0.0 <= clip_norm < float("inf"):
            raise ValueError(f"clip_norm must be in [0, inf), got {clip_norm}")
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach, fused=fused)
        self.clip_norm = clip_norm
        self._step_supports_amp_scaling = False  # gradients must be unscaled before they are clipped

    def __getstate__(self) -> dict[str, Any]:
        """Return what copy and pickle need: the base class knows of groups and states alone."""
        names = ("clip_norm", "_step_supports_amp_scaling")
        return super().__getstate__() | {name: getattr(self, name) for name in names}

    def step(self, closure: Any = None) -> Any:
        """Clip, then take AdamW's step. Evaluate the closure, if any, first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.clip_norm:
            weights = [weight for group in self.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, self.clip_norm)
        adamw_step(self)
        return loss
