"""Samples: one record per device and moment, with the memory of the watched processes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from lib.monitor.discovery import find
from lib.monitor.host import Host
from lib.monitor.sampling import Ownership, Sampler, moments
from tests.helpers.fake_nvml import FakeNvml, device, process


def test_moments_keep_time_and_leave_out_what_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    seen = []
    for _ in moments(1.0, 4, None):
        seen.append(now[0])
        now[0] += 2.5 if len(seen) == 2 else 0.1  # one sample takes long
    assert seen == pytest.approx([0.0, 1.0, 4.0, 5.0])


def test_sample_holds_what_the_contract_names(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    phase = tmp_path / "phase"
    phase.write_text("ramp")
    gpus = find(Path("/nowhere"), FakeNvml(device(compute=[process(sleeper.pid, 812.5), process(1, 99)])))
    (record,) = Sampler(gpus, Host(), sleeper.pid, phase).take()
    assert record["phase"] == "ramp" and record["gpu"] == 0
    assert record["process_mib"] == 812.5  # not the neighbour's 99
    assert record["device_used_mib"] == 20_000 and record["gpu_utilization"] == 87
    assert record["power_w"] == 412.35 and record["temperature_c"] == 61
    assert record["host_rss_mib"] > 0
    assert abs(record["time"] - time.time()) < 5


def test_driver_that_dies_half_way_leaves_a_gap_and_the_recording_goes_on(
    sleeper: subprocess.Popen[bytes],
) -> None:
    nvml = FakeNvml(device(compute=[process(sleeper.pid, 812.5)]))
    sampler = Sampler(find(Path("/nowhere"), nvml), Host(), sleeper.pid)
    (before,) = sampler.take()
    nvml.dead = True
    (during,) = sampler.take()
    nvml.dead = False
    (after,) = sampler.take()
    assert before["process_mib"] == after["process_mib"] == 812.5
    assert set(during) == {"time", "gpu", "host_rss_mib"}


def test_phase_file_that_is_missing_or_empty_gives_no_phase(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for name in ("empty", "missing"):
        assert "phase" not in Sampler([], Host(), os.getpid(), tmp_path / name).take()[0]


def test_process_of_the_tree_is_ours_and_its_unknown_size_stays_unknown() -> None:
    owner = Ownership(in_container=False)
    assert owner.mib({5: 100.0, 6: 50.0, 9: 7.0}, {5, 6}) == 150.0
    assert owner.mib({5: 100.0, 6: None}, {5, 6}) is None  # part of a sum is not the sum
    assert owner.mib({9: 7.0}, {5, 6}) is None
    assert owner.mib({}, {5}) is None


def test_in_a_container_the_one_process_that_turned_up_since_the_start_is_ours() -> None:
    owner = Ownership(in_container=True)
    assert owner.mib({88001: 300.0}, {12}) is None  # a neighbour was there before
    assert owner.mib({88001: 300.0, 90210: 40.0}, {12}) == 40.0
    assert owner.mib({88001: 300.0, 90210: 640.0, 90300: 70.0}, {12}) == 640.0  # another neighbour comes later
    assert owner.mib({88001: 300.0}, {12}) is None
    both = Ownership(in_container=True)
    assert both.mib({}, {12}) is None
    assert both.mib({1001: 10.0, 1002: 20.0}, {12}) is None  # either could be ours
    outside = Ownership(in_container=False)
    assert outside.mib({}, {12}) is None
    assert outside.mib({90210: 40.0}, {12}) is None


def test_in_a_container_nothing_is_said_of_a_run_that_others_are_started_beside() -> None:
    owner = Ownership(in_container=True, alone=False)
    assert owner.mib({}, {12}) is None
    assert owner.mib({1002: 900.0}, {12}) is None  # the other run's
    assert owner.mib({1001: 400.0, 1002: 900.0}, {12}) is None
    assert owner.mib({12: 400.0, 1002: 900.0}, {12}) == 400.0  # where numbers are those of the container
