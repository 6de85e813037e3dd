"""Read the peaks of a GPU's memory allocator, once training is warm."""

from __future__ import annotations

import torch

WARM_STEPS = 3  # by then algorithms are chosen and kernels compiled, which may take more memory than training


class AllocatorPeaks:
    """Read the largest numbers of bytes that torch's allocator has held since ``reset``; unknown on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = 0

    def reset(self) -> None:
        """Start from what is allocated now. The cache is emptied, as it would count as reserved memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def after_step(self) -> None:
        """Reset once the first ``WARM_STEPS`` steps are over."""
        if self.steps < WARM_STEPS:
            self.steps += 1
            if self.steps == WARM_STEPS:
                self.reset()

    def bytes(self) -> dict[str, int]:
        """Return ``allocator_peak`` and ``reserved_peak``; an empty dict on a CPU."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocator_peak": torch.cuda.max_memory_allocated(),
            "reserved_peak": torch.cuda.max_memory_reserved(),
        }
