"""Whoever watches a run sees how far it is within an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.storage.run_dir import RunDir
from lib.training.progress_report import ProgressReport
from tests.helpers.run_train_py import options, start, wait_for
from tests.helpers.tiny_runs import folder


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_step_speed_and_time_left_are_known_from_the_second_step_on_and_written_once_a_second(tmp_path: Path) -> None:
    run, clock = folder(tmp_path), Clock()
    report = ProgressReport(run, epochs=3, steps=100, batch_size=64, clock=clock)
    report.start_epoch(0, [])
    clock.now += 30.0
    report.after_step(0, 1)  # slow, as it compiles
    assert run.read_progress() == {}
    clock.now += 0.5
    report.after_step(0, 2)
    record = run.read_progress()
    assert (record["epoch"], record["epochs"], record["step"], record["steps"]) == (1, 3, 2, 100)
    assert record["images_per_second"] == pytest.approx(128)
    assert record["seconds_left"] == pytest.approx(298 * 0.5)
    clock.now += 0.5
    report.after_step(0, 3)
    assert run.read_progress()["step"] == 2
    clock.now += 0.5
    report.after_step(0, 4)
    assert run.read_progress()["step"] == 4


def test_evaluations_still_to_come_are_part_of_the_time_left(tmp_path: Path) -> None:
    run, clock = folder(tmp_path), Clock()
    report = ProgressReport(run, epochs=3, steps=10, batch_size=64, clock=clock)
    report.start_epoch(4, [{"evaluation_seconds": 7.0}])
    report.after_step(1, 5)
    clock.now += 2.0
    report.after_step(1, 6)
    assert run.read_progress()["seconds_left"] == pytest.approx(14 * 2.0 + 2 * 7.0)


def test_a_disk_that_is_full_does_not_stop_the_run(tmp_path: Path) -> None:
    clock = Clock()
    report = ProgressReport(RunDir(tmp_path / "missing"), epochs=1, steps=10, batch_size=64, clock=clock)
    report.after_step(0, 1)
    clock.now += 2.0
    report.after_step(0, 2)


def test_a_running_process_tells_how_far_it_is_and_leaves_nothing_of_it_behind(tmp_path: Path) -> None:
    process = start(*options(train_images=0, batch_size=16, epochs=2), "--output", str(tmp_path))
    run = RunDir(tmp_path)
    wait_for(run.read_progress)
    record = run.read_progress()
    assert record["steps"] == 250 and 0 < record["step"] <= 250 and record["epoch"] in (1, 2)
    assert record["images_per_second"] > 0 and record["seconds_left"] > 0
    assert process.wait(timeout=120) == 0
    assert not run.progress.exists()
