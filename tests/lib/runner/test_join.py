"""Several runners share the runs of one configuration: none is trained twice, none is lost."""

from __future__ import annotations

import json
import signal

import pytest

from tests.helpers.fake_tree import (
    RUNS,
    THREE_RUNS,
    behave,
    end,
    folders,
    make_tree,
    release,
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


def test_joining_nobody_trains_everything(tree):
    code, out, err = run(tree, "--join", *THREE_RUNS)
    assert (code, started(tree)) == (0, list(RUNS)), err
    assert "3 done" in out and run(tree, "--join", *THREE_RUNS)[0] == 0
    assert len(folders(tree)) == 1 and len(started(tree)) == 3


def test_joiners_that_start_at_the_same_moment_share_one_folder(tree):
    processes = [start(tree, "--join", *THREE_RUNS) for _ in range(4)]
    try:
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, out + err
    finally:
        for process in processes:
            end(process)
    (folder,) = folders(tree)
    assert sorted(started(tree)) == sorted(RUNS)
    assert {state(folder, name)["state"] for name in RUNS} == {"done"}


def test_a_joiner_trains_what_the_first_has_not_begun_and_the_first_shows_all(tree):
    behave(tree, {RUNS[0]: ["slow"]})
    first = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        code, out, err = run(tree, "--join", *THREE_RUNS)
        assert code == 0 and "2 done, 1 still being trained by another runner" in out, err
        assert f"- {RUNS[0]}: running" in (folders(tree)[0] / "summary.md").read_text()
        assert first.poll() is None
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)
    finally:
        end(first)
    behave(tree, {})
    code, out, _ = run(tree, *THREE_RUNS)
    assert code == 0 and "3 done" in out
    assert started(tree) == [*RUNS, RUNS[0]]
    (folder,) = folders(tree)
    assert len(json.loads((folder / "environment.json").read_text())["resumed"]) == 2


def test_the_first_waits_for_a_joiner_and_learns_how_its_runs_ended(tree):
    behave(tree, {RUNS[0]: ["held"], RUNS[1]: ["fail"], RUNS[2]: ["slow"]})
    first = start(tree, *THREE_RUNS, "EPOCHS=1")
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        joiner = start(tree, "--join", *THREE_RUNS, "EPOCHS=1")
        try:
            wait_for(lambda: running(tree, RUNS[2]))
            joiner.send_signal(signal.SIGTERM)
            assert joiner.wait(timeout=30) == 143
        finally:
            end(joiner)
        (folder,) = folders(tree)
        assert state(folder, RUNS[2])["state"] == "interrupted"
        behave(tree, {})
        release(tree)
        out, _ = first.communicate(timeout=60)
    finally:
        end(first)
    # what failed there is not tried again here; what was interrupted there is gone on with
    assert started(tree) == [*RUNS, RUNS[2]]
    assert first.returncode == 1 and "2 done, 1 failed" in out
    assert f"{RUNS[1]}: failed: RuntimeError: the sky fell" in out


def test_joining_other_runs_is_refused(tree):
    folder = tree / "lib/runner/folder.py"
    folder.write_text(folder.read_text().replace("FOLDER_TIMEOUT = 30.0", "FOLDER_TIMEOUT = 0.5"))
    behave(tree, {RUNS[0]: ["slow"]})
    first = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        code, _, err = run(tree, "--join", *THREE_RUNS, "SEEDS=2")
        assert code == 2 and "the same NAME=value" in err and f"process {first.pid}" in err
        assert len(folders(tree)) == 1
    finally:
        end(first)


def test_a_run_counts_as_running_from_its_start_not_only_once_its_process_has_told(tree):
    behave(tree, {RUNS[0]: ["mute"]})
    first = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: started(tree))
        code, out, err = run(tree, "--join", *THREE_RUNS)
        assert code == 0 and "2 done, 1 still being trained by another runner" in out, err
        (folder,) = folders(tree)
        assert f"- {RUNS[0]}: running" in (folder / "summary.md").read_text()
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)
    finally:
        end(first)
