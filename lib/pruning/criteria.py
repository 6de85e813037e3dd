"""Score the importance of weights from what Adam keeps anyway: one pure function per criterion.

Each takes the weights ``w``, the bias-corrected first moment ``m`` and second moment ``v`` (flat tensors of one slice)
and the exponent ``a``, and gives one score per weight; low scores are pruned first. Scores are comparable across
layers as they are: the scale of the raw second moment is what tells layers apart.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Criterion = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def fisher(w: Tensor, m: Tensor, v: Tensor, a: float) -> Tensor:
    """Return ``|w| * v^a``, the family of diagonal-Fisher scores.

    a = 1/2 is optimal brain damage with Adam's second moment as the Fisher diagonal (``w^2 v``; arXiv 2507.18807),
    a = 1/4 as Adam's own estimate of curvature (``w^2 sqrt(v)``), a = 0 is the magnitude, the control.
    """
    if a == 0.0:
        return w.abs()
    if a == 0.5:
        return v.sqrt().mul_(w).abs_()
    if a == 0.25:
        return v.sqrt().sqrt_().mul_(w).abs_()
    return v.pow(a).mul_(w).abs_()


def first_order(w: Tensor, m: Tensor, v: Tensor, a: float) -> Tensor:
    """Return ``|w * m|``, first-order estimate of the change of the loss (Molchanov et al. 2019, arXiv 1906.10771)."""
    return (w * m).abs_()


def movement(w: Tensor, m: Tensor, v: Tensor, a: float) -> Tensor:
    """Return ``-w * m``: movement pruning (arXiv 2005.07683) read off Adam's momentum instead of learned scores."""
    return (w * m).neg_()


def hybrid(w: Tensor, m: Tensor, v: Tensor, a: float) -> Tensor:
    """Return ``|w * m| * |w| / (sqrt(v) + eps)``, the importance of the first published AdamWPrune."""
    return (w * m * w).abs_().div_(v.sqrt().add_(1e-8))


CRITERIA: dict[str, Criterion] = {
    "fisher": fisher,
    "first_order": first_order,
    "movement": movement,
    "hybrid": hybrid,
}
