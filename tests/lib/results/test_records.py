"""Runs and groups of runs give the figures they recorded, and none that they did not."""

from __future__ import annotations

from lib.results.records import MeanStd, RunRecord


def test_one_run_has_a_mean_but_no_deviation() -> None:
    assert MeanStd.of([98.5]) == MeanStd(1, 98.5, None)
    assert MeanStd.of([None, float("nan")]) is None


def test_peak_by_category_is_the_summarys_which_saw_more_than_the_ends_of_epochs() -> None:
    ends = [{"memory": {"weights": 10, "optimizer_state": 5}}]
    run = RunRecord("r", {}, metrics=ends, summary={"memory_peak": {"weights": 10, "optimizer_state": 20}})
    assert run.memory("by_category") == 30


def test_peak_by_category_of_an_unfinished_run_is_its_largest_epoch() -> None:
    run = RunRecord(
        "r",
        {},
        metrics=[{"memory": {"weights": 10, "gradients": 5}}, {"memory": {"weights": 4, "gradients": 9}}],
    )
    assert run.memory("by_category") == 15
    assert run.memory("allocator_peak") is None
