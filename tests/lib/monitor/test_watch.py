"""The recorder beside a run: it tags phases, ends with its process and starts quickly."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from lib.monitor import process
from lib.storage.project import ROOT
from tests.helpers.gpu_recordings import samples_in
from tests.helpers.run_train_py import wait_for


def test_recorder_tags_phases_and_ends_with_its_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    output, phase = tmp_path / "gpu.jsonl", tmp_path / "phase"
    phase.write_text("startup\n")
    command = [*process.COMMAND, "--pid", str(sleeper.pid), "--output", str(output)]
    command += ["--interval", "0.05", "--phase-file", str(phase)]
    with subprocess.Popen(command, cwd=ROOT) as recorder:
        wait_for(lambda: output.exists() and len(samples_in(output)) >= 2)
        phase.write_text("train")
        wait_for(lambda: samples_in(output)[-1]["phase"] == "train")
        os.killpg(sleeper.pid, signal.SIGKILL)
        sleeper.wait()
        ended = time.monotonic()
        assert recorder.wait(timeout=5) == 0
        assert time.monotonic() - ended < 1.0
    samples = samples_in(output)
    assert {s["phase"] for s in samples} == {"startup", "train"}
    assert all(s["gpu"] is None and s["host_rss_mib"] > 0 for s in samples[:-1])
    assert all(b["time"] > a["time"] for a, b in pairwise(samples))


def test_recorder_starts_in_under_a_third_of_a_second_and_without_torch(tmp_path: Path) -> None:
    output = tmp_path / "gpu.jsonl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as run:
        command = [sys.executable, "-X", "importtime", *process.COMMAND[1:], "--pid", str(run.pid)]
        command += ["--output", str(output), "--interval", "60"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as recorder:
            wait_for(lambda: output.exists() and output.read_text().endswith("\n"))
            run.communicate()
            errors = recorder.communicate(timeout=10)[1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time rather than the clock's, so that a busy machine does not fail the promise
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3
    imported = {line.rpartition("|")[2].strip() for line in errors.splitlines()}
    assert "lib.monitor.sampling" in imported
    assert not {"torch", "numpy", "matplotlib", "rich", "psutil", "pynvml", "yaml", "lib.config"} & imported
    assert len(samples_in(output)) == 1
