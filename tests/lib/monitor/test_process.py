"""The monitor beside the run, which tags its samples from the start and never outlives it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lib.monitor.process import MonitorProcess
from lib.storage.files import read_json_lines
from lib.storage.run_dir import RunDir
from tests.helpers.run_train_py import wait_for


def test_samples_begin_in_startup_whatever_phase_an_earlier_start_ended_in(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.set_phase("done")
    monitor = MonitorProcess(run, 0.05, print)
    monitor.start()
    assert monitor.process is not None
    process = monitor.process
    deadline = time.monotonic() + 10
    while not (run.gpu.exists() and run.gpu.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    monitor.end()
    assert process.returncode is not None
    samples, torn = read_json_lines(run.gpu)
    assert torn == 0 and samples
    assert {sample["phase"] for sample in samples} == {"startup"}
    assert all(sample["host_rss_mib"] > 0 and sample["time"] <= time.time() for sample in samples)


def test_no_monitor_is_started_where_none_is_wanted(tmp_path: Path) -> None:
    monitor = MonitorProcess(RunDir(tmp_path), None, print)
    monitor.start()
    monitor.end()
    assert monitor.process is None and not list(tmp_path.iterdir())


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording into a relative folder arrives all the same."""
    for name in ("json", "lib"):
        (tmp_path / f"{name}.py").write_text("open('owned', 'w')")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    run = RunDir(Path("run"))
    monitor = MonitorProcess(run, 0.05, print)
    monitor.start()
    wait_for(lambda: run.gpu.exists() and run.gpu.stat().st_size > 0)
    monitor.end()
    assert not (tmp_path / "owned").exists()
