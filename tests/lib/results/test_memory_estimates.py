"""Predicted peaks stand beside the measured ones, and their lack stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.config import kconfig
from lib.config.resolve import run_config
from lib.results import load, memory_estimates
from lib.storage.project import ROOT
from tests.helpers.fake_results import make_results

FEW = [("adamw", "none", 0.0), ("adamwprune", "state", 0.7)]


def test_a_prediction_that_cannot_be_made_stops_nothing_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=2)
    (folder / memory_estimates.FILE).write_text('[{"run": ')
    (folder / "lenet5_adamw_none" / "config.yaml").write_text("model: nothing we know\n")
    (run_of_it,) = memory_estimates.with_predictions(load.load(folder)).runs
    assert "memory_predicted" not in run_of_it.summary
    assert capsys.readouterr().err.startswith("no predicted peaks: ")


def test_a_damaged_configuration_costs_its_own_run_the_prediction_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=2)
    (folder / "lenet5_adamw_none" / "config.yaml").write_text("model: nothing we know\n")
    whole = run_config(kconfig.defaults(ROOT), "lenet5", "adamwprune", "state", 0.7, seed=0)
    (folder / whole.run_id / "config.yaml").write_text(whole.to_yaml())
    runs = memory_estimates.with_predictions(load.load(folder)).runs
    assert {run.name for run in runs if "memory_predicted" in run.summary} == {whole.run_id}
    assert capsys.readouterr().err.startswith("no predicted peaks: ")
