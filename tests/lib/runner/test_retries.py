"""A run that was killed, or that ran out of memory, is tried again; what would end the same way is not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lib.runner import environment
from lib.runner.live_table import Plain
from lib.runner.row import Row
from lib.runner.scheduler import Scheduler
from lib.storage.run_dir import RunDir
from lib.training.stop import StopSignals
from tests.helpers.fake_tree import RUNS, THREE_RUNS, behave, folders, make_tree, run, started, state


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


def test_a_run_that_was_killed_is_resumed_once_and_this_is_told(tree):
    behave(tree, {RUNS[1]: ["once-killed"]})
    code, out, err = run(tree, *THREE_RUNS)
    assert code == 0 and "3 done" in out, err
    assert started(tree) == [RUNS[0], RUNS[1], RUNS[1], RUNS[2]]
    assert f"{RUNS[1]}: killed by SIGKILL" in out and "tried again" in out
    (folder,) = folders(tree)
    assert "SIGKILL" in state(folder, RUNS[1])["retried_after"]
    records = (folder / RUNS[1] / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in records] == [1, 2]


@pytest.mark.parametrize(("retries", "starts"), [(0, 1), (1, 2), (3, 4)])
def test_a_run_that_is_killed_each_time_fails_after_so_many_retries(tree, retries, starts):
    behave(tree, {RUNS[0]: ["segv"]})
    code, out, _ = run(tree, *THREE_RUNS, f"RETRIES={retries}")
    assert code == 1 and "2 done, 1 failed" in out
    assert started(tree).count(RUNS[0]) == starts


@pytest.mark.parametrize("word", ["fail", "diverge", "import-error"])
def test_what_would_end_the_same_way_is_not_tried_again(tree, word):
    behave(tree, {RUNS[0]: [word]})
    assert run(tree, *THREE_RUNS)[0] == 1
    assert started(tree) == list(RUNS)


class Ended:
    """A training process that has ended for lack of memory."""

    def __init__(self, reason: str) -> None:
        self.reason, self.process = reason, SimpleNamespace(returncode=1)

    def outcome(self, stopping: bool) -> tuple[str, str]:
        return "failed", self.reason

    def may_be_retried(self, state: str, reason: str) -> bool:
        from lib.runner.process import TrainingProcess

        return TrainingProcess.may_be_retried(self, state, reason)


@pytest.mark.parametrize(
    ("reason", "device", "gpu", "jobs"),
    [
        ("out of GPU memory: peak 800 of 1000 MiB", "auto", True, 2),
        ("out of memory: peak 800 MiB", "auto", False, 4),
        ("out of memory: peak 800 MiB", "cpu", True, 4),
        ("RuntimeError: the sky fell", "auto", True, None),
    ],
)
def test_lack_of_memory_halves_the_runs_that_share_a_gpu(make_config, tmp_path, monkeypatch, reason, device, gpu, jobs):
    monkeypatch.setattr(environment, "why_no_cuda", lambda: None if gpu else "there is no GPU")
    config = make_config(optimizer="sgd", device=device)
    row = Row(RunDir(tmp_path / config.run_id), config, "queued")
    row.run.path.mkdir()
    scheduler = Scheduler(tmp_path, [row], 4, Plain([row], 4), StopSignals(), retries=1)
    scheduler.queue.clear()
    scheduler.claims[row.run.name] = SimpleNamespace(close=lambda: None)
    row.begin()
    scheduler.conclude(row, Ended(reason))
    assert (scheduler.queue, row.retries) == (([], 0) if jobs is None else ([row], 1))
    assert scheduler.jobs == (jobs or 4)
