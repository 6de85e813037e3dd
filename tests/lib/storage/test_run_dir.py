"""Folders of results and runs: what they hold, who holds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.storage.files import write_json
from lib.storage.locks import Locked
from lib.storage.project import ROOT
from lib.storage.run_dir import ResultsDir, RunDir


def python(code: str, *arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_status_keeps_what_was_known_and_a_new_start_forgets_the_old_end(tmp_path):
    run = RunDir(tmp_path)
    assert run.read_status() == {}
    run.write_status("running", epoch=2, epochs=5)
    started = run.read_status()["started"]
    run.write_status("failed", "out of memory", exit_code=1)
    status = run.read_status()
    assert (status["state"], status["reason"], status["exit_code"]) == ("failed", "out of memory", 1)
    assert (status["epoch"], status["epochs"], status["pid"]) == (2, 5, os.getpid())
    assert status["started"] == started <= status["finished"]
    run.write_status("running")
    status = run.read_status()
    assert status["reason"] is None and "finished" not in status and "exit_code" not in status


def test_a_state_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"finished.*queued, running, done"):
        RunDir(tmp_path).write_status("finished")


def test_a_damaged_status_reads_as_none(tmp_path):
    run = RunDir(tmp_path)
    run.status.write_bytes(b'{"state": "do')
    assert run.read_status() == {}
    run.write_status("running")
    assert run.read_status()["state"] == "running"


def test_the_lock_names_its_holder_and_goes_when_the_holder_is_killed(tmp_path):
    code = """
import sys, time; from lib.storage.run_dir import RunDir
with RunDir(sys.argv[1]).lock():
    print("held", flush=True); time.sleep(60)
"""
    run = RunDir(tmp_path / "run")
    holder = python(code, run.path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Locked, match=f"process {holder.pid}") as caught, run.lock():
        pass
    assert caught.value.pid == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with run.lock():
        pass


def test_the_lock_can_be_waited_for(tmp_path):
    code = """
import sys, time; from lib.storage.run_dir import RunDir
with RunDir(sys.argv[1]).lock():
    print("held", flush=True); time.sleep(0.3)
"""
    run = RunDir(tmp_path)
    holder = python(code, run.path)
    holder.stdout.readline()
    with run.lock(wait=30):
        pass
    holder.communicate()


# --- one matrix


def make(root: Path, name: str) -> ResultsDir:
    folder = ResultsDir(root / name)
    folder.path.mkdir(parents=True)
    folder.matrix.write_text("runs: [b, a]\n")
    return folder


def test_the_newest_folder_is_found_by_its_stamp_and_preset(tmp_path):
    assert ResultsDir.newest(tmp_path / "none") is None
    make(tmp_path, "z-20250101-000000")
    newest = make(tmp_path, "lenet5-20260101-000000")
    make(tmp_path, "lenet5-sgd-20250601-000000")
    (tmp_path / "lenet5-20270101-000000").mkdir()  # never got its matrix.yaml: the runner was killed before
    (tmp_path / "notes").mkdir()
    found = ResultsDir.newest(tmp_path)
    assert found is not None and found.path == newest.path
    of_preset = ResultsDir.newest(tmp_path, "lenet5-sgd")
    assert of_preset is not None and of_preset.name == "lenet5-sgd-20250601-000000"
    assert ResultsDir.newest(tmp_path, "quickstart") is None


def test_the_newest_folder_is_the_one_whose_recorded_time_is_latest_whatever_its_name_says(tmp_path):
    later = make(tmp_path, "m-20260101-000000")  # in a zone that is behind
    earlier = make(tmp_path, "m-20260101-090000")
    write_json(later.environment, {"time": "2026-01-01T08:00:00.000001+00:00"})
    write_json(earlier.environment, {"time": "2026-01-01T09:00:00+0100"})  # as older versions wrote it
    assert [folder.name for folder in ResultsDir.by_age(tmp_path)] == [earlier.name, later.name]
    newest = ResultsDir.newest(tmp_path)
    assert newest is not None and newest.name == later.name


@pytest.mark.parametrize("recorded", ["2999-01-01T00:00:00.123456+00:00", "1999-01-01T00:00:00+00:00"])
def test_a_new_start_is_later_than_all_before_it_though_the_clock_was_set_back(tmp_path, recorded):
    folder = make(tmp_path, "m-20260101-000000")
    write_json(folder.environment, {"time": recorded})
    begun = time.time()
    write_json(make(tmp_path, "m-20250101-000000").environment, {"time": ResultsDir.next_start(tmp_path)})
    first, second = ResultsDir.by_age(tmp_path)
    assert (first.name, second.name) == ("m-20260101-000000", "m-20250101-000000")
    assert second.started() >= begun - 0.001 and second.started() > first.started()  # recorded in milliseconds


@pytest.mark.parametrize(
    "content", ["", "{", '{"time": 3}', '{"time": "soon"}', '{"time": "9999-12-31T23:59:59.999999"}']
)
def test_a_damaged_record_of_the_time_leaves_the_name(tmp_path, content):
    folder = make(tmp_path, "m-20260101-000000")
    folder.environment.write_text(content)
    assert ResultsDir.by_age(tmp_path)[0].name == folder.name
    assert ResultsDir.next_start(tmp_path)


def test_two_folders_made_in_one_second_do_not_collide(tmp_path):
    first, second = (ResultsDir.create(tmp_path, "quick") for _ in range(2))
    assert first.path < second.path


def test_runs_come_in_the_order_of_the_matrix_or_by_name_where_it_is_damaged(tmp_path):
    folder = make(tmp_path, "m-20250101-000000")
    assert [run.name for run in folder.runs()] == ["b", "a"]
    for name in ("b", "a"):
        (folder.path / name).mkdir()
        (folder.path / name / "config.yaml").touch()
    for damage in ("", "runs: {", "\0\0\0", "runs: 3", "other: 1"):
        folder.matrix.write_text(damage)
        assert [run.name for run in folder.runs()] == ["a", "b"]


def test_latest_moves_to_the_newest_and_never_harms_a_real_folder(tmp_path):
    first, second = make(tmp_path, "m-20250101-000000"), make(tmp_path, "m-20250101-000001")
    first.set_latest()
    second.set_latest()
    assert (tmp_path / "latest").resolve() == second.path.resolve()
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    first.set_latest()
    assert (tmp_path / "latest").is_dir() and not (tmp_path / "latest").is_symlink()
    assert len(list(tmp_path.iterdir())) == 3
