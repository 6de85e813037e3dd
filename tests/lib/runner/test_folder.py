"""Runners of different folders do not meet, and the newest folder is the one that was started last."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.helpers.fake_tree import (
    RUNS,
    THREE_RUNS,
    behave,
    end,
    folders,
    make_tree,
    run,
    running,
    start,
    started,
    wait_for,
)

# the sign is the other way round: local time is so many hours ahead of UTC, or behind it
AHEAD, BEHIND = "AAA-14", "BBB+8"


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.mark.parametrize("other", [["PRESET=other"], ["--rerun"], ["SEED=1"]])
def test_other_runs_are_trained_beside_those_of_another_runner(tree, other):
    behave(tree, {RUNS[0]: ["slow"]})
    first = start(tree, *THREE_RUNS)
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        behave(tree, {})
        code, out, err = run(tree, *THREE_RUNS, *other)
        assert code == 0 and "3 done" in out, err
        assert first.poll() is None and len(folders(tree)) == 2
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)
    finally:
        end(first)


def test_make_shows_its_own_results_even_where_others_are_newer_by_then(tree):
    behave(tree, {RUNS[2]: ["slow"]})
    command = [sys.executable, str(tree / "scripts/pipeline.py"), "JOBS=1", *THREE_RUNS, "EPOCHS=1"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        pid = wait_for(lambda: running(tree, RUNS[2]))["pid"]
        behave(tree, {})
        assert run(tree, *THREE_RUNS, "PRESET=other")[0] == 0
        subprocess.run(["kill", "-KILL", str(pid)], check=True)
        out, _ = first.communicate(timeout=120)
    finally:
        end(first)
    (own,) = [folder for folder in folders(tree) if not folder.name.startswith("other-")]
    assert f"written: results/{own.name}/summary.md" in out and "other-" not in out


def test_the_clock_may_go_back_and_the_last_folder_is_still_the_newest(tree):
    assert run(tree, *THREE_RUNS, TZ=AHEAD)[0] == 0
    assert run(tree, *THREE_RUNS, "EPOCHS=3", TZ=BEHIND)[0] == 0
    second, first = folders(tree)  # by name
    assert second.name < first.name and len(started(tree)) == 6
    assert run(tree, *THREE_RUNS, "EPOCHS=3", TZ=BEHIND)[0] == 0
    assert len(started(tree)) == 6, "trained again"
    assert run(tree, "--continue", "EPOCHS=4", TZ=BEHIND)[0] == 0
    assert len((second / RUNS[0] / "metrics.jsonl").read_text().splitlines()) == 4
    assert len((first / RUNS[0] / "metrics.jsonl").read_text().splitlines()) == 2
