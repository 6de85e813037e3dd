"""Movement pruning (Sanh, Wolf, Rush 2020, arXiv 2005.07683): learned scores, through a straight-through mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import masks
from .pruner import MaskedPruner
from .schedule import CubicSchedule


class MovementPruner(MaskedPruner):
    """Weights that move away from zero win.

    The forward pass uses ``W' = W * M`` with the mask ``M`` of the highest scores ``S``. With the gradient of the loss
    with respect to ``W'``::

        S <- S - r * dL/dW' * W          (straight through the mask: pruned weights are scored as well)
        dL/dW = dL/dW' * M               (only what takes part in the forward pass learns)

    ``r`` is the learning rate in force over the base learning rate: scores start at 0 and are only ever ranked, so
    their absolute scale has no effect and there is no second learning rate to tune. A pruned weight comes back when its
    score has risen enough, with the value it had, moved by what was left of its momentum (as in the authors' code,
    where the optimizer goes on with weights under the mask). When the ramp ends the mask is fixed, and scores and kept
    values are freed.

    Beside the model it holds, until the ramp ends, 8 bytes a prunable weight (score and kept value), and the mask.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        schedule: CubicSchedule,
        ranking: str,
        min_density: float,
    ) -> None:
        super().__init__(model, optimizer, weights, schedule, ranking, min_density)
        self.learned = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.values = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        group = optimizer.param_groups[0]
        self.base_rate = float(group.get("initial_lr", group["lr"]))

    @torch.no_grad()
    def before_step(self) -> None:
        rate = self._rate()
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if self.learned:
                # survivors hold their value in the weight, pruned weights in `values`: the sum is W
                self.learned[name].addcmul_(weight.grad, weight + self.values[name], value=-rate)
            if name in self.masks:
                masks.zero_pruned(self._gradient(weight), self.masks[name])

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        return masks.flat(self.learned[name])[start:stop].float()

    def on_new_mask(self, name: str, bits: Tensor) -> None:
        """Put away the values of newly pruned weights and bring back those of weights that return."""
        weight, values = masks.flat(self.weights[name].data), masks.flat(self.values[name])
        for start, stop in masks.slices(weight.numel()):
            whole = weight[start:stop] + values[start:stop]
            survives = masks.unpack(bits, start, stop)
            weight[start:stop] = torch.where(survives, whole, 0.0)
            values[start:stop] = torch.where(survives, 0.0, whole)

    def after_step(self) -> None:
        if self.values and not self.schedule.is_update(self.steps + 1):  # an update does this for its new mask
            for name, bits in self.masks.items():
                self.on_new_mask(name, bits)
        super().after_step()
        if self.steps == self.schedule.end:
            self.learned.clear()
            self.values.clear()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"scores": dict(self.learned), "values": dict(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.learned = self._like_weights(state["scores"])
        self.values = self._like_weights(state["values"])

    def _tensors(self) -> Iterator[Tensor]:
        yield from super()._tensors()
        yield from self.learned.values()
        yield from self.values.values()

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"]) / self.base_rate if self.base_rate else 1.0

    def _like_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.empty_like(self.weights[name]).copy_(tensor) for name, tensor in tensors.items()}

    @staticmethod
    def _gradient(weight: Tensor) -> Tensor:
        """The gradient, in the weight's own memory order."""
        assert weight.grad is not None
        if weight.grad.stride() != weight.stride():
            weight.grad = torch.empty_like(weight).copy_(weight.grad)
        return weight.grad
