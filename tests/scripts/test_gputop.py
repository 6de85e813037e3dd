"""scripts/gputop.py as its users see it: recording beside a run."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lib.monitor.devices import find
from lib.monitor.host import Host, Watched
from lib.monitor.recording import LineFile, load
from lib.monitor.sampling import Ownership, Sampler, moments
from scripts import gputop
from tests.helpers.fake_nvml import FakeNvml, device, process
from tests.helpers.gpu_recordings import write

TOOL = Path(gputop.__file__)
NOWHERE = Path("/nowhere")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sample(at: float, phase: str | None = "train", gpu: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"time": at, "gpu": gpu, **({"phase": phase} if phase else {}), **more}


def wait_for(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def all_devices_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A run of a sort: a process with one child."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], start_new_session=True) as child:
        wait_for(lambda: len(Host().tree(child.pid)) == 2 and (Host().tree_rss_mib(child.pid) or 0) > 0.5)
        yield child
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)


# --- recording ------------------------------------------------------------------------------------------------


def test_recorder_tags_phases_and_ends_with_its_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    output, phase = tmp_path / "gpu.jsonl", tmp_path / "phase"
    phase.write_text("startup\n")
    command = [sys.executable, str(TOOL), "--pid", str(sleeper.pid), "--output", str(output)]
    command += ["--interval", "0.05", "--phase-file", str(phase)]
    with subprocess.Popen(command) as recorder:
        wait_for(lambda: output.exists() and len(lines(output)) >= 2)
        phase.write_text("train")
        wait_for(lambda: lines(output)[-1]["phase"] == "train")
        os.killpg(sleeper.pid, signal.SIGKILL)
        sleeper.wait()
        ended = time.monotonic()
        assert recorder.wait(timeout=5) == 0
        assert time.monotonic() - ended < 1.0
    samples = lines(output)
    assert {s["phase"] for s in samples} == {"startup", "train"}
    assert all(s["gpu"] is None and s["host_rss_mib"] > 0 for s in samples[:-1])
    assert all(b["time"] > a["time"] for a, b in pairwise(samples))


def test_recorder_ends_at_once_for_a_process_that_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    assert gputop.main(["--pid", str(gone.pid), "--output", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x").read_text() == ""


@pytest.mark.parametrize("how", ["--once", "--once --json", "--once --csv", "--json --count 2", "--csv", "--count 2"])
def test_process_that_does_not_exist_is_said_in_one_line_with_code_2(
    how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gputop.main(["--pid", "999999999", *how.split()]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err == "gputop: there is no process 999999999\n"


def test_process_of_a_recorded_tree_is_watched_there_and_not_on_this_machine(tmp_path: Path) -> None:
    write(tmp_path, f"proc/{os.getpid()}/stat", f"{os.getpid()} (python3) S 1")
    watched = Watched(os.getpid(), Host(tmp_path))
    assert not watched.gone and watched.handle is None
    assert Host(tmp_path).memory_mib() == {}  # a gap, not this machine's


def test_missing_folder_of_the_output_is_named_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "gpu.jsonl"
    recording.write_text('{"time":1,"gpu":null,"host_rss_mib":3}\n')
    for asked in (["--count", "1"], ["--plot", str(recording)]):
        assert gputop.main([*asked, "--output", f"{tmp_path}/no/such/a.png"]) == 2
        assert capsys.readouterr().err == f"gputop: {tmp_path}/no/such/a.png: there is no folder {tmp_path}/no/such\n"
    assert list(tmp_path.iterdir()) == [recording]


def test_recorder_waits_out_a_long_interval_no_longer_than_its_process_lives() -> None:
    began = time.monotonic()
    with subprocess.Popen(["/bin/sleep", "0.2"]) as child:
        assert gputop.main(["--pid", str(child.pid), "--interval", "60", "--count", "2", "--csv"]) == 0
    assert time.monotonic() - began < 5


def test_recorder_starts_in_under_a_third_of_a_second_and_without_torch(tmp_path: Path) -> None:
    output = tmp_path / "gpu.jsonl"
    command = [sys.executable, "-X", "importtime", str(TOOL), "--count", "1", "--output", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time rather than the clock's, so that a busy machine does not fail the promise
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "numpy", "matplotlib", "rich", "psutil", "pynvml"} & imported
    assert len(lines(output)) == 1


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
    gpus = find(NOWHERE, FakeNvml(device(compute=[process(sleeper.pid, 812.5), process(1, 99)])))
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
    sampler = Sampler(find(NOWHERE, nvml), Host(), sleeper.pid)
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


def test_torn_tail_does_not_swallow_the_next_line_and_a_full_disk_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    path.write_text('{"time": 1, "gpu": null}\n{"time": 2, "gp')
    LineFile(path).write('{"time":3,"gpu":null}')
    records, dropped = load(path)
    assert [record["time"] for record in records] == [1, 3]
    assert dropped == 1
    LineFile(Path("/dev/full")).write("lost")
