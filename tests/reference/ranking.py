"""How many weights each layer loses, and which: by sorting all scores."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch
from torch import Tensor


def caps_of(scores: list[Tensor], shapes: list[torch.Size], min_density: float) -> list[int]:
    """How many candidates each layer can lose: it keeps a share of its weights at least, and never none."""
    keep = [max(1, math.ceil(min_density * shape.numel())) for shape in shapes]
    return [score.numel() - k for score, k in zip(scores, keep, strict=True)]


def prune_counts(
    scores: list[Tensor], shapes: list[torch.Size], prune: int, ranking: str, caps: list[int]
) -> list[int]:
    """How many of its candidates each layer loses, ``prune`` altogether and no layer more than its cap.

    ``global`` takes the lowest scores wherever they are. ``layer_adaptive`` (LAMP, arXiv 2010.07611) does so with
    ``s^2 / sum of s'^2`` over the ``s' >= s`` of the same layer, with scores cut to bfloat16. ``uniform`` and ``erk``
    (arXiv 1911.11134) do not look at scores: a layer keeps weights in proportion to its size, or to the sum of its
    dimensions.
    """
    if ranking in ("uniform", "erk"):
        return by_shape(scores, [sum(s) if ranking == "erk" else s.numel() for s in shapes], prune, caps)
    queue = []
    for layer, (score, cap) in enumerate(zip(scores, caps, strict=True)):
        keys = ascending = score.float().view(-1).sort().values
        if ranking == "layer_adaptive":
            cut = (ascending.view(torch.int32) & -(1 << 16)).view(torch.float32).double()
            squares = cut.clamp(min=0) ** 2
            lamp = squares / torch.stack([squares[cut >= s].sum() for s in cut])
            keys = torch.stack([lamp.nan_to_num(0), cut], 1)  # 0 / 0: no score of the layer is positive
        queue += [(key, layer) for key in keys[:cap].tolist()]
    taken = Counter(layer for _, layer in sorted(queue)[:prune])
    return [taken[layer] for layer in range(len(scores))]


def by_shape(scores: list[Tensor], shares: list[int], prune: int, caps: list[int]) -> list[int]:
    """Keep ``c * share`` of each layer, between its floor and all candidates, with the c that keeps enough."""
    candidates = np.array([score.numel() for score in scores], dtype=float)
    low, high = 0.0, max(candidates / shares)
    for _ in range(100):
        c = (low + high) / 2
        kept = np.clip(c * np.array(shares), candidates - caps, candidates)
        low, high = (c, high) if kept.sum() < candidates.sum() - prune else (low, c)
    return rounded(candidates - np.clip(high * np.array(shares), candidates - caps, candidates), caps, prune)


def rounded(values: np.ndarray, caps: list[int], total: int) -> list[int]:
    """Whole numbers that sum to the total: round down, then up the largest remainders; the rest where there is room."""
    counts = np.clip(np.floor(values), 0, caps)
    for i in np.argsort(counts - values, kind="stable")[: max(0, round(total - counts.sum()))]:
        counts[i] = min(counts[i] + 1, caps[i])
    for i in np.argsort(counts - caps, kind="stable"):
        counts[i] += np.clip(total - counts.sum(), -counts[i], caps[i] - counts[i])
    return counts.astype(int).tolist()


def between(low: list[int], counts: list[int], high: list[int], total: int) -> list[int]:
    """The counts, moved between bounds where rounding has taken them outside."""
    room = np.subtract(high, low)
    return np.add(low, rounded(np.clip(counts, low, high) - low, room, total - sum(low))).tolist()


def lowest(score: Tensor, count: int) -> Tensor:
    """Booleans of the lowest scores; of equal ones those that come first."""
    chosen = torch.zeros(score.numel(), dtype=torch.bool)
    chosen[score.float().view(-1).sort(stable=True).indices[:count]] = True
    return chosen.view(score.shape)
