"""Present AdamWPrune, which prunes in its own step, to the training loop as a pruner."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..optimizers.adamwprune import AdamWPrune
from ..pruning.pruner import Pruner, phase_of


class State(Pruner):
    """Report what AdamWPrune has pruned. All work is done by the optimizer's ``step()``."""

    def __init__(self, model: nn.Module, optimizer: AdamWPrune, weights: Mapping[str, Tensor]) -> None:
        super().__init__(model, optimizer, weights)
        self.adamwprune = optimizer

    def phase(self, step: int) -> str:
        return phase_of(self.adamwprune.schedule, step)

    def after_step(self) -> None:
        self.last_update = self.adamwprune.last_update

    def memory_bytes(self) -> dict[str, int]:
        return self.adamwprune.memory_bytes()
