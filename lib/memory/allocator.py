"""The peaks of a GPU's allocator, of training once it is warm."""

from __future__ import annotations

import torch

WARM_STEPS = 3  # by then algorithms are chosen and kernels compiled, which may take more memory than training


class Peaks:
    """What torch's allocator has held at most since the last ``begin()``. Elsewhere than on a GPU nothing is known."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = 0

    def begin(self) -> None:
        """Look for the peaks anew. What the cache keeps of other work would be in that of the reserved memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def after_step(self) -> None:
        """Begin anew once training runs as it will."""
        if self.steps < WARM_STEPS:
            self.steps += 1
            if self.steps == WARM_STEPS:
                self.begin()

    def bytes(self) -> dict[str, int]:
        """``allocator_peak`` and ``reserved_peak``, {} where they are not known."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocator_peak": torch.cuda.max_memory_allocated(),
            "reserved_peak": torch.cuda.max_memory_reserved(),
        }
