"""Prune by movement (Sanh, Wolf, Rush 2020, arXiv 2005.07683): learned scores, through a straight-through mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import masks
from .pruner import MaskedPruner
from .schedule import CubicSchedule


class MovementPruner(MaskedPruner):
    """Keep the weights that move away from zero.

    The forward pass uses ``W' = W * M`` with the mask ``M`` of the highest scores ``S``. With the gradient of the loss
    with respect to ``W'``::

        S <- S - r * dL/dW' * W          (straight through the mask: pruned weights are scored as well)
        dL/dW = dL/dW' * M               (only what takes part in the forward pass learns)

    ``r`` is the learning rate in force over the base learning rate: scores start at 0 and are only ever ranked, so
    their absolute scale has no effect and there is no second learning rate to tune. A pruned weight comes back when its
    score has risen enough, with the value it had, moved by what was left of its momentum (as in the authors' code,
    where the optimizer goes on with weights under the mask). When the ramp ends the mask is fixed, and scores and kept
    values are freed.

    Beside the model it holds, until the ramp ends, 8 bytes a prunable float32 weight (score and kept value), and the
    mask, one bit a weight.

    Args:
        model, optimizer, weights: as for ``Pruner``; the learning rate is that of the first parameter group.
        schedule (CubicSchedule): when and how much is pruned.
        ranking (str): ``global``, ``layer_adaptive``, ``uniform`` or ``erk``, see ``Selection.prune_counts``.
        min_density (float): fraction of its weights that every layer keeps at least, in [0, 1].

    Raises:
        ValueError: the floors do not leave enough weights to prune.

    Example::

        schedule = CubicSchedule(final=0.9, start=0, end=5000, interval=100)
        pruner = MovementPruner(model, optimizer, prunable_parameters(model), schedule, "global", 0.01)
        for images, labels in batches:
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            pruner.before_step()
            optimizer.step()
            pruner.after_step()
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
        self.learned_scores = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.pruned_values = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        group = optimizer.param_groups[0]
        self.base_lr = float(group.get("initial_lr", group["lr"]))

    @torch.no_grad()
    def before_step(self) -> None:
        """Take the gradients into the scores, then clear those of pruned weights."""
        relative_lr = self._relative_lr()
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if self.learned_scores:
                # survivors hold their value in the weight, pruned weights in `pruned_values`: the sum is W
                values = weight + self.pruned_values[name]
                self.learned_scores[name].addcmul_(weight.grad, values, value=-relative_lr)
            if name in self.masks:
                masks.zero_pruned(self._grad(weight), self.masks[name])

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        return masks.flat(self.learned_scores[name])[start:stop].float()

    def on_new_mask(self, name: str, bits: Tensor) -> None:
        """Put away the values of newly pruned weights and bring back those of weights that return."""
        weight, values = masks.flat(self.weights[name].data), masks.flat(self.pruned_values[name])
        for start, stop in masks.slices(weight.numel()):
            whole = weight[start:stop] + values[start:stop]
            survives = masks.unpack(bits, start, stop)
            weight[start:stop] = torch.where(survives, whole, 0.0)
            values[start:stop] = torch.where(survives, 0.0, whole)

    def after_step(self) -> None:
        if self.pruned_values and not self.schedule.is_update(self.steps + 1):  # an update does this for its new mask
            for name, bits in self.masks.items():
                self.on_new_mask(name, bits)
        super().after_step()
        if self.steps == self.schedule.end:
            self.learned_scores.clear()
            self.pruned_values.clear()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"scores": dict(self.learned_scores), "values": dict(self.pruned_values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.learned_scores = self._like_weights(state["scores"])
        self.pruned_values = self._like_weights(state["values"])

    def _tensors(self) -> Iterator[Tensor]:
        yield from super()._tensors()
        yield from self.learned_scores.values()
        yield from self.pruned_values.values()

    def _relative_lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"]) / self.base_lr if self.base_lr else 1.0

    def _like_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.empty_like(self.weights[name]).copy_(tensor) for name, tensor in tensors.items()}

    @staticmethod
    def _grad(weight: Tensor) -> Tensor:
        """Return the gradient, brought into the weight's own memory order."""
        assert weight.grad is not None
        if weight.grad.stride() != weight.stride():
            weight.grad = torch.empty_like(weight).copy_(weight.grad)
        return weight.grad
