"""State pruning: AdamWPrune prunes in its own step; here the loop only reads what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..optimizers.adamwprune import AdamWPrune
from ..pruning.pruner import Pruner, phase_of


class State(Pruner):
    """The loop's view of AdamWPrune. All work is done by the optimizer's ``step()``."""

    def __init__(self, model: nn.Module, optimizer: AdamWPrune, weights: Mapping[str, Tensor]) -> None:
        super().__init__(model, optimizer, weights)
        self.adamwprune = optimizer

    def phase(self, step: int) -> str:
        schedule = self.adamwprune.schedule
        return "train" if schedule is None else phase_of(schedule, step)

    def last_update(self) -> dict[str, Any] | None:
        latest = self.adamwprune.latest
        return None if latest is None else latest.describe()

    def memory_bytes(self) -> dict[str, int]:
        return self.adamwprune.memory_bytes()
