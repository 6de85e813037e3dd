"""What every pruning method shares: schedule, ranking, masks and the figures that a run reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import masks
from .schedule import CubicSchedule
from .score_histogram import Layer, Update
from .selection import Selection, kept, survivors_at_least


class Pruner:
    """No pruning; the base of the methods and the loop's view of them.

    The loop calls ``before_step()`` after the backward pass (gradients unscaled and clipped) and ``after_step()``
    after the optimizer's step. Memory figures are bytes, sparsities shares between 0 and 1.

    Args:
        model: the model in training.
        optimizer: its optimizer, asked for the bytes of its state.
        weights: the prunable weights by name (see ``prunable_parameters``).
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.weights = dict(weights)

    def before_step(self) -> None:
        """Look at the gradients, or change them, before the optimizer uses them."""

    def after_step(self) -> None:
        """Apply the mask to the weights that the optimizer has just changed."""

    def phase(self, step: int) -> str:
        """Part of the run that step ``step`` belongs to: ``train``, ``ramp`` or ``finetune``."""
        return "train"

    def sparsity(self) -> float:
        """Counted zeros over the prunable weights."""
        size = sum(weight.numel() for weight in self.weights.values())
        return self._zeros() / size if size else 0.0

    def sparsity_total(self) -> float:
        """The same zeros over all parameters."""
        return self._zeros() / sum(parameter.numel() for parameter in self.model.parameters())

    def layer_sparsity(self) -> dict[str, float]:
        """Counted zeros of each prunable layer over its weights."""
        return {name: _zeros(weight) / weight.numel() for name, weight in self.weights.items()}

    def memory_bytes(self) -> dict[str, int]:
        """Bytes of ``optimizer_state`` and ``pruning_state``, counted from the live tensors."""
        states = sum(
            value.numel() * value.element_size()
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        own = sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())
        return {"optimizer_state": states, "pruning_state": own}

    def last_update(self) -> dict[str, Any] | None:
        """Step, sparsity and histogram of the scores of this process's latest mask update; None before the first."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides weights and optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of ``state_dict``."""

    def _tensors(self) -> Iterator[Tensor]:
        """Tensors that pruning keeps beside the model and the optimizer."""
        return iter(())

    def _zeros(self) -> int:
        return sum(_zeros(weight) for weight in self.weights.values())


class MaskedPruner(Pruner):
    """A method that keeps masks beside the optimizer: subclasses say how weights score.

    Args:
        schedule: when and how much.
        ranking: see ``ranking.Selection.numbers``.
        min_density: share of its weights that every layer keeps at least.

    Raises:
        ValueError: the floors do not leave enough weights to prune.
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
        super().__init__(model, optimizer, weights)
        check_floors([weight.numel() for weight in self.weights.values()], schedule.final, min_density)
        self.schedule = schedule
        self.ranking = ranking
        self.min_density = min_density
        self.steps = 0
        self.masks: dict[str, Tensor] = {}  # bits per layer; none before the first update
        self.latest: Update | None = None

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        """Scores of the weights ``start`` to ``stop`` (in memory order) of a layer; low ones are pruned."""
        raise NotImplementedError

    def after_step(self) -> None:
        self.steps += 1
        if self.schedule.is_update(self.steps):
            self._update_masks()
        for name, bits in self.masks.items():
            masks.zero_pruned(self.weights[name].data, bits)

    def phase(self, step: int) -> str:
        return phase_of(self.schedule, step)

    def last_update(self) -> dict[str, Any] | None:
        return None if self.latest is None else self.latest.describe()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "masks": dict(self.masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.masks = {name: bits.to(self.weights[name].device) for name, bits in state["masks"].items()}

    def _tensors(self) -> Iterator[Tensor]:
        return iter(self.masks.values())

    def _layer(self, name: str) -> Layer:
        weight = self.weights[name]
        size = weight.numel()

        def scores() -> Iterator[Tensor]:
            for start, stop in masks.slices(size):
                yield self.scores(name, start, stop)

        return Layer(name, tuple(weight.shape), size, scores, keep=survivors_at_least(size, self.min_density))

    @torch.no_grad()
    def _update_masks(self) -> None:
        layers = [self._layer(name) for name in self.weights]
        size = sum(layer.size for layer in layers)
        prune = round(self.schedule.sparsity(self.steps) * size)
        selection = Selection(layers)
        numbers = selection.numbers(prune, self.ranking)
        limits = selection.thresholds(numbers)
        self.latest = Update(self.steps, prune / size, selection.upper, numbers)
        for layer, threshold in zip(layers, limits, strict=True):
            new = torch.cat([masks.pack(part) for part in kept(layer, threshold)])
            self.on_new_mask(layer.name, new)
            self.masks[layer.name] = new
        sizes = [layer.size for layer in layers]
        masks.exact_counts([self.masks[layer.name] for layer in layers], sizes, (sizes - numbers).tolist())

    def on_new_mask(self, name: str, bits: Tensor) -> None:
        """Called with a layer's new mask while the old one is still in ``self.masks``."""


def phase_of(schedule: CubicSchedule, step: int) -> str:
    """``train`` until the ramp starts, ``ramp`` until it ends, ``finetune`` after it."""
    if schedule.final == 0.0 or step <= schedule.start:
        return "train"
    return "ramp" if step <= schedule.end else "finetune"


def check_floors(sizes: list[int], sparsity: float, min_density: float) -> None:
    """Refuse a sparsity that the layers' floors do not allow."""
    if not 0.0 <= min_density <= 1.0:
        raise ValueError(f"min_density must be in [0, 1], got {min_density}")
    room = sum(size - survivors_at_least(size, min_density) for size in sizes)
    if round(sparsity * sum(sizes)) > room:
        raise ValueError(
            f"sparsity {sparsity} cannot be reached: min_density {min_density} keeps "
            f"{sum(sizes) - room} of {sum(sizes)} weights; lower one of them"
        )


def _zeros(weight: Tensor) -> int:
    return weight.numel() - int(torch.count_nonzero(weight))
