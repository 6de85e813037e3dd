"""Draw random numbers that depend on their keys alone: a resumed run sees what an undisturbed one sees."""

from __future__ import annotations

import numpy as np
import torch


def seed_of(*keys: int) -> int:
    """Return a 64-bit seed from non-negative integers, e.g. (seed, epoch); neighbouring keys give unrelated seeds."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])


def generator(*keys: int) -> torch.Generator:
    """Return a generator on the CPU, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed_of(*keys))
