"""The table that `make memory` prints."""

from __future__ import annotations

from lib.config.run_config import RunConfig
from lib.memory_estimate.estimator import MOMENTS, Prediction
from lib.memory_estimate.table import text
from tests.helpers.tiny_runs import tiny

MIB = 2**20


def prediction(run: RunConfig, *, peak: int, states: int, stages: tuple[str, ...]) -> Prediction:
    held = dict.fromkeys(("weights", "gradients", "buffers", "pruning_state", "data", "temporary"), 0)
    whole = held | {"optimizer_state": states * MIB, "activations": (peak - states) * MIB}
    return Prediction(run, {stage: dict.fromkeys(MOMENTS, whole) for stage in stages})


def test_table_shows_the_most_and_the_last_and_never_cuts_a_figure() -> None:
    run = tiny("adamwprune", "state")
    one = prediction(run, peak=123_456, states=100, stages=("start", "ramp", "after"))
    one.stages["after"]["pass"] = one.stages["after"]["pass"] | {"optimizer_state": 30 * MIB}
    shown = text([one], 200_000.0, {run.run_id: 4096})
    line = next(line for line in shown.splitlines() if "state_70" in line).split()
    assert line[1:3] == ["100.0", "30.0"]
    assert line[-3:] == ["123,456.0", "yes", "4,096"]
    assert text([one], 1000.0, {run.run_id: 0}).splitlines()[-4].split()[-2:] == ["no", "none"]
