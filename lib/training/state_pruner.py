"""State pruning: AdamWPrune prunes in its own step; here the loop only reads what it did."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..optimizers.adamwprune import AdamWPrune
from ..pruning.pruner import Pruner, phase_of


class State(Pruner):
    """The loop's view of AdamWPrune. All work is done by the optimizer's ``step()``."""

    def __init__(self, model: nn.Module, optimizer: AdamWPrune, weights: Mapping[str, Tensor]) -> None:
        super().__init__(model, optimizer, weights)
        self.adamwprune = optimizer

    def phase(self, step: int) -> str:
        return phase_of(self.adamwprune.schedule, step)

    def after_step(self) -> None:
        self.last_update = self.adamwprune.last_update

    def memory_bytes(self) -> dict[str, int]:
        return self.adamwprune.memory_bytes()
