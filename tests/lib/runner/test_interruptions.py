"""The runner is stopped, killed or started twice, and nothing is lost or trained twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.fake_tree import (
    RUNS,
    THREE_RUNS,
    alive,
    behave,
    end,
    folders,
    make_tree,
    run,
    running,
    start,
    started,
    state,
    wait_for,
)


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_one_signal_lets_the_run_save_and_the_same_command_goes_on(tree, number, expected):
    behave(tree, {RUNS[0]: ["slow"]})
    process = start(tree, *THREE_RUNS)
    try:
        status = wait_for(lambda: running(tree, RUNS[0]))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        end(process)
    assert process.returncode == expected and "Traceback" not in out + err
    (folder,) = folders(tree)
    assert state(folder, RUNS[0])["state"] == "interrupted"
    assert state(folder, RUNS[1])["state"] == "queued"
    assert not alive(status["pid"])
    assert (folder / "summary.md").exists()
    behave(tree, {})
    assert run(tree, *THREE_RUNS)[0] == 0
    assert len(folders(tree)) == 1


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_two_signals_end_everything_at_once(tree, number, expected):
    behave(tree, {RUNS[0]: ["slow", "deaf"]})
    process = start(tree, *THREE_RUNS)
    try:
        status = wait_for(lambda: running(tree, RUNS[0]))
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None  # the run does not answer, so the runner waits for it
        process.send_signal(number)
        began = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 3
    finally:
        end(process)
    assert process.returncode == expected and "Traceback" not in out + err
    assert not alive(status["pid"])
    assert state(folders(tree)[0], RUNS[0])["state"] == "interrupted"


def test_a_run_that_has_not_begun_yet_does_not_delay_the_end(tree):
    behave(tree, {RUNS[0]: ["mute"]})
    process = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: started(tree))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=5)
    finally:
        end(process)
    assert process.returncode == 130
    assert state(folders(tree)[0], RUNS[0])["state"] == "interrupted"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_pictures_are_drawn_ends_quietly_too_and_the_drawing_with_it(tree, number, expected):
    drawing = "import os, time; print('drawing', os.getpid(), flush=True); time.sleep(60)\n"
    (tree / "scripts/update_graphs.py").write_text(drawing)
    process = subprocess.Popen(
        [sys.executable, str(tree / "scripts/pipeline.py"), *THREE_RUNS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    child = 0
    try:
        while not (line := process.stdout.readline()).startswith("drawing"):
            assert line
        child = int(line.split()[1])
        os.killpg(process.pid, number)  # what Ctrl-C in a terminal does
        process.wait(10)
        assert not alive(child)
        assert (process.returncode, process.stderr.read()) == (expected, "")
    finally:
        if child and alive(child):
            os.kill(child, signal.SIGKILL)
        end(process)


def test_a_second_runner_of_the_same_runs_is_refused_and_told_who_is_there_and_what_else_to_do(tree):
    behave(tree, {RUNS[0]: ["slow"]})
    process = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        for arguments in (THREE_RUNS, ["--continue"]):
            code, out, err = run(tree, *arguments)
            assert code == 2 and out == ""
            assert f"{folders(tree)[0]} is in use by process {process.pid}" in err and len(err.splitlines()) == 1
            assert "`make join`" in err and "RESULTS_DIR=" in err
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        end(process)
    assert started(tree) == [RUNS[0]] and len(folders(tree)) == 1


def test_runners_started_at_the_same_moment_train_nothing_twice(tree):
    processes = [start(tree, *THREE_RUNS) for _ in range(6)]
    codes = []
    for process in processes:
        process.communicate(timeout=120)
        codes.append(process.returncode)
    assert codes.count(2) + codes.count(0) == 6 and 0 in codes
    assert sorted(started(tree)) == sorted(RUNS)
    assert len(folders(tree)) == 1


def test_after_kill_9_of_the_runner_the_next_start_waits_for_the_orphan(tree):
    behave(tree, {RUNS[0]: ["slow", "watch"]})
    process = start(tree, *THREE_RUNS)
    try:
        status = wait_for(lambda: running(tree, RUNS[0]))
        process.kill()
        process.communicate()
        assert alive(status["pid"])
        behave(tree, {})
        code, _, _ = run(tree, *THREE_RUNS)
    finally:
        end(process)
    assert code == 0
    (folder,) = folders(tree)
    ended = float((folder / RUNS[0] / "orphan-ended").read_text())
    records = [json.loads(line) for line in (folder / RUNS[0] / "metrics.jsonl").read_text().splitlines()]
    assert ended <= state(folder, RUNS[0])["updated"]
    assert [r["epoch"] for r in records] == [1, 2] and status["pid"] not in {r["pid"] for r in records}
    assert started(tree).count(RUNS[0]) == 2 and len(started(tree)) == 4
