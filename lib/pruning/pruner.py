"""Share what every pruning method needs: schedule, ranking, masks and the figures that a run reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import masks
from .schedule import CubicSchedule
from .score_histogram import LayerScores, MaskUpdate
from .selection import Selection, keep_masks, min_survivors


class Pruner:
    """Do not prune; the base of the methods and what the training loop knows of them.

    The loop calls ``before_step()`` after the backward pass (gradients unscaled and clipped) and ``after_step()``
    after the optimizer's step. Memory figures are bytes, sparsities fractions between 0 and 1.

    Args:
        model (nn.Module): the model in training.
        optimizer (torch.optim.Optimizer): its optimizer, asked for the bytes of its state.
        weights (mapping of str to Tensor): the prunable weights by name (see ``prunable_parameters``).

    Attributes:
        last_update (MaskUpdate or None): what the last mask update of this process did; None before the first.
    """

    last_update: MaskUpdate | None

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.weights = dict(weights)
        self.last_update = None

    def before_step(self) -> None:
        """Look at the gradients, or change them, before the optimizer uses them."""

    def after_step(self) -> None:
        """Apply the mask to the weights that the optimizer has just changed."""

    def phase(self, step: int) -> str:
        """Return the part of the run that step ``step`` belongs to: ``train``, ``ramp`` or ``finetune``."""
        return "train"

    def sparsity(self) -> float:
        """Return the fraction of the prunable weights that is zero, counted from the weights."""
        size = sum(weight.numel() for weight in self.weights.values())
        return self._zeros() / size if size else 0.0

    def sparsity_total(self) -> float:
        """Return the zeros among the prunable weights as a fraction of all parameters of the model."""
        return self._zeros() / sum(parameter.numel() for parameter in self.model.parameters())

    def layer_sparsity(self) -> dict[str, float]:
        """Return the fraction of each prunable layer's weights that is zero, by name."""
        return {name: _zeros(weight) / weight.numel() for name, weight in self.weights.items()}

    def memory_bytes(self) -> dict[str, int]:
        """Return the bytes of ``optimizer_state`` and ``pruning_state``, counted from the live tensors."""
        optimizer_state = sum(
            value.numel() * value.element_size()
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        pruning_state = sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())
        return {"optimizer_state": optimizer_state, "pruning_state": pruning_state}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides weights and optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""

    def _tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that pruning keeps beside the model and the optimizer."""
        return iter(())

    def _zeros(self) -> int:
        return sum(_zeros(weight) for weight in self.weights.values())


class MaskedPruner(Pruner):
    """Keep masks beside the optimizer; subclasses say how weights are scored.

    Args:
        model, optimizer, weights: as for ``Pruner``.
        schedule (CubicSchedule): when and how much is pruned.
        ranking (str): how layers compete, see ``Selection.prune_counts``.
        min_density (float): fraction of its weights that every layer keeps at least, in [0, 1].

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

    def scores(self, name: str, start: int, stop: int) -> Tensor:
        """Return the scores of the weights ``start`` to ``stop`` (in memory order) of a layer; low ones are pruned."""
        raise NotImplementedError

    def after_step(self) -> None:
        self.steps += 1
        if self.schedule.is_update(self.steps):
            self.update_masks()
        for name, bits in self.masks.items():
            masks.zero_pruned(self.weights[name].data, bits)

    def phase(self, step: int) -> str:
        return phase_of(self.schedule, step)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "masks": dict(self.masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.masks = {name: bits.to(self.weights[name].device) for name, bits in state["masks"].items()}

    @torch.no_grad()
    def update_masks(self) -> None:
        """Prune to the sparsity that the schedule asks for after ``steps`` steps. ``after_step`` calls this."""
        layers = [self._layer_scores(name) for name in self.weights]
        size = sum(layer.size for layer in layers)
        prune = round(self.schedule.sparsity(self.steps) * size)
        selection = Selection(layers)
        counts = selection.prune_counts(prune, self.ranking)
        thresholds = selection.thresholds(counts)
        self.last_update = MaskUpdate(self.steps, prune / size, selection.coarse, counts)
        for layer, threshold in zip(layers, thresholds, strict=True):
            bits = torch.cat([masks.pack(keep) for keep in keep_masks(layer, threshold)])
            self.on_new_mask(layer.name, bits)
            self.masks[layer.name] = bits
        sizes = [layer.size for layer in layers]
        masks.exact_counts([self.masks[layer.name] for layer in layers], sizes, (sizes - counts).tolist())

    def on_new_mask(self, name: str, bits: Tensor) -> None:
        """React to a layer's new mask, while the old one is still in ``self.masks``."""

    def _tensors(self) -> Iterator[Tensor]:
        return iter(self.masks.values())

    def _layer_scores(self, name: str) -> LayerScores:
        weight = self.weights[name]
        size = weight.numel()

        def scores() -> Iterator[Tensor]:
            for start, stop in masks.slices(size):
                yield self.scores(name, start, stop)

        return LayerScores(name, tuple(weight.shape), size, scores, min_survivors(size, self.min_density))


def phase_of(schedule: CubicSchedule, step: int) -> str:
    """Return ``train`` until the ramp starts, ``ramp`` until it ends, ``finetune`` after it."""
    if schedule.final == 0.0 or step <= schedule.start:
        return "train"
    return "ramp" if step <= schedule.end else "finetune"


def check_floors(sizes: list[int], sparsity: float, min_density: float) -> None:
    """Raise ValueError for a sparsity that the layers' floors do not allow."""
    if not 0.0 <= min_density <= 1.0:
        raise ValueError(f"min_density must be in [0, 1], got {min_density}")
    room = sum(size - min_survivors(size, min_density) for size in sizes)
    if round(sparsity * sum(sizes)) > room:
        raise ValueError(
            f"sparsity {sparsity} cannot be reached: min_density {min_density} keeps "
            f"{sum(sizes) - room} of {sum(sizes)} weights; lower one of them"
        )


def _zeros(weight: Tensor) -> int:
    return weight.numel() - int(torch.count_nonzero(weight))
