"""Processes that are killed or stopped: nothing is lost, and the end is the same bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.make_runner import (
    PRUNED,
    copy_tree,
    end,
    epochs,
    kill_each,
    matrix,
    only_run,
    past_epoch,
    processes_with,
    runs,
    same,
    settings,
    start,
    status,
    wait_for,
)


@pytest.fixture
def one(tree, tmp_path):
    """A configuration of one of the three runs: AdamWPrune, the one with the most to lose."""
    return settings(tmp_path / "config", ("adamwprune",), ("state",))


def test_training_killed_in_mid_epoch_ends_with_the_same_bits(three, calm, tmp_path):
    results = tmp_path / "results"
    process = start(three, results, "JOBS=2")
    try:
        kill_each(process, results, 3, epoch=2)
        out, err = process.communicate(timeout=120)
    finally:
        end(process)
    assert process.returncode == 1 and "3 failed" in out and "Traceback" not in err
    for folder in runs(results).values():
        assert status(folder)["state"] == "failed" and "SIGKILL" in status(folder)["reason"]
    code, out, err = matrix(three, results, "JOBS=1", "--continue")
    assert code == 0, out + err
    for name, folder in runs(results).items():
        assert "resuming after" in (folder / "log.txt").read_text()
        assert epochs(folder) == [1, 2, 3, 4, 5, 6]
        assert same(folder, calm[name]), name


def test_make_continue_after_kill_9_of_the_training_ends_with_the_same_bits(one, calm, tmp_path):
    own, results = copy_tree(tmp_path / "own"), tmp_path / "results"
    shutil.copy(one, own / ".config")
    process = start(own / ".config", results, tree=own)
    try:
        folder = only_run(results)
        os.kill(wait_for(past_epoch(folder, 2)), signal.SIGKILL)
        process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 1 and len(epochs(folder)) < 6
    command = ["make", f"PYTHON={sys.executable}", f"RESULTS_DIR={results}", "continue"]
    done = subprocess.run(command, cwd=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "resuming after" in (folder / "log.txt").read_text()
    assert epochs(folder) == [1, 2, 3, 4, 5, 6]
    assert same(folder, calm[folder.name])
    assert len(list(results.glob("fault-*"))) == 1 and (folder.parent / "report.html").exists()


def test_kill_9_of_the_runner_leaves_no_two_writers_and_the_same_bits(calm, tmp_path):
    config, results = settings(tmp_path / "config", ("sgd", "adamwprune"), PRUNED), tmp_path / "results"
    first = start(config, results, "JOBS=2")
    second = None
    try:
        wait_for(lambda: (results / "latest").exists())
        orphans = [wait_for(past_epoch(folder, 1)) for folder in runs(results).values()]
        first.kill()
        first.communicate()
        second = start(config, results, "JOBS=2")
        while second.poll() is None:
            for folder in runs(results).values():
                # an orphan may take a while to end; who comes after it must be alone
                assert len([p for p in processes_with(f"--output {folder}") if p.pid not in orphans]) <= 1
            time.sleep(0.1)
        out, err = second.communicate()
    finally:
        end(first)
        if second is not None:
            end(second)
    assert second.returncode == 0, out + err
    for name, folder in runs(results).items():
        assert status(folder)["pid"] not in orphans
        assert "in use" not in (folder / "log.txt").read_text()
        assert epochs(folder) == [1, 2, 3, 4, 5, 6]
        assert same(folder, calm[name]), name


def test_children_of_a_killed_runner_end_by_themselves_and_are_resumable(one, tmp_path):
    results = tmp_path / "results"
    process = start(one, results, "EPOCHS=90", "MONITOR=y")
    try:
        folder = only_run(results)
        wait_for(past_epoch(folder, 1))
        process.kill()
        process.communicate()
        wait_for(lambda: not processes_with(str(results)), 15)
    finally:
        end(process)
    assert status(folder)["state"] == "interrupted" and status(folder)["epoch"] < 90
    assert (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_finishes_the_step_saves_and_goes_on_to_the_same_bits(one, calm, tmp_path, number, expected):
    results = tmp_path / "results"
    process = start(one, results, "MONITOR=y")
    try:
        folder = only_run(results)
        wait_for(past_epoch(folder, 2))
        assert processes_with(f"lib.monitor.watch --pid {status(folder)['pid']}")
        time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        end(process)
    assert process.returncode == expected, out + err
    assert "Traceback" not in out + err + (folder / "log.txt").read_text()
    assert status(folder)["state"] == "interrupted" and len(epochs(folder)) < 6
    assert not processes_with(str(results))
    code, out, err = matrix(one, results, "MONITOR=y")
    assert code == 0, out + err
    assert epochs(folder) == [1, 2, 3, 4, 5, 6]
    assert same(folder, calm[folder.name])


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_two_signals_end_everything_at_once(one, tmp_path, number, expected):
    results = tmp_path / "results"
    process = start(one, results, "EPOCHS=90", "MONITOR=y")
    try:
        folder = only_run(results)
        wait_for(past_epoch(folder, 1))
        os.kill(status(folder)["pid"], signal.SIGSTOP)  # so busy that it cannot answer
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        end(process)
    assert process.returncode == expected and "Traceback" not in out + err
    assert not processes_with(str(results))
    assert status(folder)["state"] == "interrupted"


def test_a_run_alone_ends_with_the_same_bits_as_beside_others(one, calm, tmp_path):
    results = tmp_path / "results"
    code, out, err = matrix(one, results, "JOBS=1", cwd="/")
    assert code == 0, out + err
    assert same(only_run(results), calm[only_run(results).name])
