"""Predict how much memory a run will need by tracing it on fake tensors: no GPU is needed, nothing is allocated.

Operations run eagerly; a compiled model needs less. What the libraries of a GPU allocate themselves (context,
workspaces of convolutions) is not included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..config.run_config import RunConfig
from ..memory.tracker import Bytes
from .fake_run import Passes, shape_of, trace_passes, trace_step

if TYPE_CHECKING:
    from ..training.models import BuildModel

#: The categories of a prediction, in the order of tables.
CATEGORIES = (
    "weights",
    "gradients",
    "buffers",
    "optimizer_state",
    "pruning_state",
    "data",
    "activations",
    "temporary",
)

#: Stages of a run that differ in what is allocated: before masks exist, while they change, and afterwards.
STAGES = ("start", "ramp", "after")

#: Parts of each stage with a peak of their own: a forward and backward pass, an optimizer step, an evaluation.
MOMENTS = ("pass", "step", "evaluation")


@dataclass(frozen=True)
class Prediction:
    """Hold the bytes at the peak of each moment of each stage of a run: `stages[stage][moment][category]`."""

    config: RunConfig
    stages: dict[str, dict[str, Bytes]]

    def training_peak(self, stage: str) -> int:
        """Return the peak of a training step in this stage, bytes."""
        return max(total(self.stages[stage][moment]) for moment in ("pass", "step"))

    @property
    def evaluation_peak(self) -> int:
        """Return the peak of an evaluation, bytes."""
        return max(total(moments["evaluation"]) for moments in self.stages.values())

    @property
    def peak(self) -> int:
        """Return the peak of the whole run, evaluation included, bytes."""
        return max(total(held) for moments in self.stages.values() for held in moments.values())


def total(held: Bytes) -> int:
    """Return the sum over all categories."""
    return sum(held.values())


class MemoryEstimator:
    """Predict runs; what several of them have in common is traced only once.

    Args:
        build_model: returns, for a model's name, the function that builds it.
    """

    def __init__(self, build_model: Callable[[str], BuildModel]) -> None:
        self.build_model = build_model
        self._passes: dict[RunConfig, Passes] = {}
        self._steps: dict[tuple[RunConfig, str], Bytes] = {}

    def predict(self, config: RunConfig) -> Prediction:
        """Predict one run in each of its stages. Raises what building the run itself would raise."""
        config = with_precision(config)
        passes = self.passes(config)
        return Prediction(config, {stage: self._stage(config, passes, stage) for stage in stages_of(config)})

    def passes(self, config: RunConfig) -> Passes:
        """Trace forward pass, backward pass and evaluation, which do not depend on optimizer and pruning."""
        unused: dict[str, Any] = {field.name: None for field in fields(config) if field.default is None}
        key = replace(unpruned(config), optimizer="", learning_rate=0.0, weight_decay=0.0, **unused)
        if key not in self._passes:
            self._passes[key] = trace_passes(key, self.build_model(config.model))
        return self._passes[key]

    def largest_batch(self, config: RunConfig, limit: int, multiple: int = 8) -> int:
        """Return the largest batch size with a peak of at most `limit` bytes, 0 if there is none.

        It is a multiple of `multiple`, or the whole training set.
        """
        images = shape_of(config)[0]

        def need(batch: int) -> int:
            prediction = self.predict(replace(config, batch_size=batch))
            return max(prediction.training_peak(stage) for stage in prediction.stages)

        if self.predict(config).evaluation_peak > limit:
            return 0
        # The peak is linear in the batch size, so that two sizes tell where the limit lies.
        small, large = max(1, min(256, images // 4)), min(1024, images)
        low, high = need(small), need(large)
        bytes_per_image = max((high - low) / max(large - small, 1), 1.0)
        batch = int((limit - low) / bytes_per_image) + small
        if batch >= images and need(images) <= limit:
            return images
        batch = min(batch, images) // multiple * multiple
        while batch > 0 and (excess := need(batch) - limit) > 0:
            batch -= math.ceil(excess / bytes_per_image / multiple) * multiple
        return max(batch, 0)

    def _stage(self, config: RunConfig, passes: Passes, stage: str) -> dict[str, Bytes]:
        """Return the peak of each moment with the states of this stage."""
        key = step_key(config, stage)
        if (key, stage) not in self._steps:
            self._steps[key, stage] = trace_step(key, self.build_model(config.model), stage)
        states = dict(self._steps[key, stage])
        during_step = {"temporary": states.pop("temporary")}
        needs = (passes.training | states, passes.between | states | during_step, passes.evaluation | states)
        return {
            moment: {name: need.get(name, 0) for name in CATEGORIES}
            for moment, need in zip(MOMENTS, needs, strict=True)
        }


def with_precision(config: RunConfig) -> RunConfig:
    """Replace `auto` precision by bf16, as on a GPU, or by float32 if the run asks for the CPU."""
    if config.precision != "auto":
        return config
    return replace(config, precision="fp32" if config.device == "cpu" else "bf16")


def unpruned(config: RunConfig) -> RunConfig:
    """Return the unpruned run of the first seed, which the passes of several runs have in common."""
    return replace(config, pruning_method="none", target_sparsity=0.0, seed=0, seed_in_name=False)


def step_key(config: RunConfig, stage: str) -> RunConfig:
    """Return the run with every setting reset that does not influence its optimizer step."""
    config = replace(config, seed=0, seed_in_name=False, batch_size=1)
    if prunes_itself(config):
        dense = stage == "start" and config.mode == "gradual"
        return replace(config, target_sparsity=0.5) if dense else config
    # masks take one bit per weight at any sparsity
    return unpruned(config) if config.pruning_method == "none" else replace(config, target_sparsity=0.5)


def prunes_itself(config: RunConfig) -> bool:
    """Return whether the optimizer itself prunes."""
    return config.pruning_method == "state"


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """Return the stages of a run."""
    return STAGES if config.pruning_method != "none" and config.target_sparsity > 0 else STAGES[:1]
