"""Take the step of torch's AdamW from within the step of a subclass."""

from __future__ import annotations

import torch


def adamw_step(optimizer: torch.optim.AdamW) -> None:
    """Step as ``torch.optim.AdamW``, without running the hooks of ``optimizer``: those run around its own step.

    The first Adam or AdamW of a process wraps the step of its class in one that runs the hooks, as the first optimizer
    of a subclass does with its own, so that ``super().step()`` would run them once more.
    """
    step = torch.optim.AdamW.step
    while getattr(step, "hooked", False):
        step = step.__wrapped__  # type: ignore[attr-defined]
    step(optimizer)
