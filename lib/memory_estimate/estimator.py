"""How much memory a run will need, predicted from rehearsals on fake tensors: no GPU needed, nothing allocated.

Operations run as they would eagerly; a compiled model needs less. What a GPU's own libraries take (context, workspaces
of convolutions) is no tensor of ours and not in here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from ..config.run_config import RunConfig
from ..memory.tracker import Bytes
from .fake_run import BuildModel, Passes, rehearse_passes, rehearse_step, shape_of

#: What a prediction consists of, in the order of the tables.
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

#: Moments of a run that differ in what is held: before masks exist, while they change, and after.
STAGES = ("start", "ramp", "after")

#: Parts of a run that each have a peak: a training pass (forward and backward), the optimizer's step, an evaluation.
MOMENTS = ("pass", "step", "evaluation")


@dataclass(frozen=True)
class Prediction:
    """Bytes by category at the peak of each moment, in each stage of a run: `stages[stage][moment][category]`."""

    config: RunConfig
    stages: dict[str, dict[str, Bytes]]

    def training_peak(self, stage: str) -> int:
        """Highest need of a training step in this stage, bytes."""
        return max(total(self.stages[stage][moment]) for moment in ("pass", "step"))

    @property
    def evaluation_peak(self) -> int:
        """Highest need of an evaluation, bytes."""
        return max(total(moments["evaluation"]) for moments in self.stages.values())

    @property
    def peak(self) -> int:
        """Highest need of the whole run, evaluation included, bytes."""
        return max(total(held) for moments in self.stages.values() for held in moments.values())


def total(held: Bytes) -> int:
    """All categories together."""
    return sum(held.values())


class Predictor:
    """Predicts runs, and rehearses what several of them have in common only once."""

    def __init__(self, build_model: Callable[[str], BuildModel]) -> None:
        """`build_model` gives for a model's name what its train.py builds it with."""
        self.build_model = build_model
        self._passes: dict[RunConfig, Passes] = {}
        self._steps: dict[tuple[RunConfig, str], Bytes] = {}

    def predict(self, config: RunConfig) -> Prediction:
        """The need of one run in each of its stages. Raises what building the run itself would raise."""
        config = settled(config)
        passes = self.passes(config)
        return Prediction(config, {stage: self._stage(config, passes, stage) for stage in stages_of(config)})

    def passes(self, config: RunConfig) -> Passes:
        """Forward, backward and evaluation, which optimizer and pruning have no part in."""
        unused: dict[str, Any] = {field.name: None for field in fields(config) if field.default is None}
        key = replace(plain(config), optimizer="", learning_rate=0.0, weight_decay=0.0, **unused)
        if key not in self._passes:
            self._passes[key] = rehearse_passes(key, self.build_model(config.model))
        return self._passes[key]

    def largest_batch(self, config: RunConfig, limit: int, multiple: int = 8) -> int:
        """The largest batch size, a multiple of 8 or the whole training set, with a peak of at most `limit` bytes.

        0 where there is none.
        """
        images = shape_of(config)[0]

        def need(batch: int) -> int:
            found = self.predict(replace(config, batch_size=batch))
            return max(found.training_peak(stage) for stage in found.stages)

        if self.predict(config).evaluation_peak > limit:
            return 0
        # What a batch needs is proportional to it, so two sizes tell where the limit lies.
        small, large = max(1, min(256, images // 4)), min(1024, images)
        low, high = need(small), need(large)
        slope = max((high - low) / max(large - small, 1), 1.0)
        batch = int((limit - low) / slope) + small
        if batch >= images and need(images) <= limit:
            return images
        batch = min(batch, images) // multiple * multiple
        while batch > 0 and (excess := need(batch) - limit) > 0:
            batch -= math.ceil(excess / slope / multiple) * multiple
        return max(batch, 0)

    def _stage(self, config: RunConfig, passes: Passes, stage: str) -> dict[str, Bytes]:
        """Each moment's peak with the states of this stage."""
        key = step_key(config, stage)
        if (key, stage) not in self._steps:
            self._steps[key, stage] = rehearse_step(key, self.build_model(config.model), stage)
        states = dict(self._steps[key, stage])
        during_step = {"temporary": states.pop("temporary")}
        needs = (passes.training | states, passes.between | states | during_step, passes.evaluation | states)
        return {
            moment: {name: need.get(name, 0) for name in CATEGORIES}
            for moment, need in zip(MOMENTS, needs, strict=True)
        }


def settled(config: RunConfig) -> RunConfig:
    """`auto` precision as on a GPU, unless the run asks for the CPU, where it counts as float32."""
    if config.precision != "auto":
        return config
    return replace(config, precision="fp32" if config.device == "cpu" else "bf16")


def plain(config: RunConfig) -> RunConfig:
    """The unpruned run of the first seed: what the passes of several runs have in common."""
    return replace(config, pruning_method="none", target_sparsity=0.0, seed=0, seed_in_name=False)


def step_key(config: RunConfig, stage: str) -> RunConfig:
    """The run with all that has no influence on its optimizer step set alike."""
    config = replace(config, seed=0, seed_in_name=False, batch_size=1)
    if prunes_itself(config):
        dense = stage == "start" and config.mode == "gradual"
        return replace(config, target_sparsity=0.5) if dense else config
    # masks take a bit a weight, whatever the sparsity
    return plain(config) if config.pruning_method == "none" else replace(config, target_sparsity=0.5)


def prunes_itself(config: RunConfig) -> bool:
    """Whether the optimizer itself prunes."""
    return config.pruning_method == "state"


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages that a run goes through."""
    return STAGES if config.pruning_method != "none" and config.target_sparsity > 0 else STAGES[:1]
