"""lib/monitor/process.py: a monitor beside the run, which tags its samples from the start and never outlives it."""

from __future__ import annotations

import time
from pathlib import Path

from lib.monitor.process import Sampler
from lib.storage.files import read_json_lines
from lib.storage.run_dir import RunDir
from tests.helpers.tiny_runs import tiny


def test_samples_begin_in_startup_whatever_phase_an_earlier_start_ended_in(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.set_phase("done")
    sampler = Sampler(tiny(monitor=True, monitor_interval=0.05), run, print)
    sampler.start()
    assert sampler.process is not None
    process = sampler.process
    deadline = time.monotonic() + 10
    while not (run.gpu.exists() and run.gpu.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    sampler.end()
    assert process.returncode is not None
    samples, torn = read_json_lines(run.gpu)
    assert torn == 0 and samples
    assert {sample["phase"] for sample in samples} == {"startup"}
    assert all(sample["host_rss_mib"] > 0 and sample["time"] <= time.time() for sample in samples)


def test_no_monitor_is_started_where_none_is_wanted(tmp_path: Path) -> None:
    sampler = Sampler(tiny(), RunDir(tmp_path), print)
    sampler.start()
    sampler.end()
    assert sampler.process is None and not list(tmp_path.iterdir())
