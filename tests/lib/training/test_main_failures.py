"""What goes wrong in a run, or beside it, ends it with its reason, or not at all."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib.monitor import process
from lib.storage.run_dir import RunDir
from tests.helpers.run_train_py import TRAIN, epochs_done, options, run_main
from tests.helpers.tiny_runs import folder, metrics

pytestmark = pytest.mark.usefixtures("signals_as_before")


def test_a_failing_run_is_recorded_with_its_reason_and_the_traceback_in_the_log(tmp_path: Path) -> None:
    def build(config: Any, data: Any) -> nn.Module:
        raise ValueError("no such layer\nin this model")

    assert run_main(tmp_path, build) == 1
    status = RunDir(tmp_path).read_status()
    assert (status["state"], status["reason"], status["exit_code"]) == ("failed", "ValueError: no such layer", 1)
    assert "Traceback" in RunDir(tmp_path).log.read_text()


def test_divergence_is_recorded_as_such(tmp_path: Path) -> None:
    assert run_main(tmp_path, optimizer="sgd", learning_rate="1e9") == 1
    status = RunDir(tmp_path).read_status()
    assert status["state"] == "diverged" and "in epoch 1" in status["reason"]


def test_lack_of_memory_names_the_peak_and_the_likely_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host(config: Any, data: Any) -> nn.Module:
        return nn.Linear(1 << 25, 1 << 25)  # 4 PiB

    def gpu(config: Any, data: Any) -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 4 << 30))
    for build, words in ((host, "out of memory: peak "), (gpu, "out of GPU memory: peak 3072 of 4096 MiB")):
        output = tmp_path / build.__name__
        assert run_main(output, build) == 1
        reason = RunDir(output).read_status()["reason"]
        assert reason.startswith(words) and "lower BATCH_SIZE" in reason


def with_files_of_at_most(kilobytes: int, output: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Train where no file may grow larger; without caches of modules, which Python would cut off in silence."""
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "-", sys.executable, "-B", TRAIN]
    command = [*limited, *options(**changes), "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_full_disk_fails_the_run_with_the_reason(tmp_path: Path) -> None:
    """The checkpoint of LeNet-5 is larger than the 300 kB that a file may have."""
    assert with_files_of_at_most(300, tmp_path).returncode == 1
    status = RunDir(tmp_path).read_status()
    assert status["state"] == "failed" and "File too large" in status["reason"]
    assert epochs_done(tmp_path) == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_metrics_that_meet_a_full_disk_keep_whole_lines_only_and_the_run_says_why(tmp_path: Path) -> None:
    """Ten lines or so are 8 kB; no checkpoint is due before."""
    done = with_files_of_at_most(8, tmp_path, epochs=60, checkpoint_every=60, train_images=64)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    run = RunDir(tmp_path)
    status = run.read_status()
    assert (status["state"], status["reason"]) == ("failed", "File too large")
    assert run.metrics.stat().st_size > 6000 and run.metrics.read_bytes().endswith(b"\n")
    assert [record["epoch"] for record in metrics(tmp_path)] == list(range(1, status["epoch"] + 1))
    assert not run.checkpoint.exists() and not list(tmp_path.glob(".*.tmp"))


# The monitor


@pytest.mark.parametrize(
    ("script", "warning"),
    [
        ("import sys; sys.exit(3)", "warning: the monitor ended early"),
        ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", "the monitor hung"),
    ],
)
def test_a_monitor_that_dies_or_hangs_costs_one_warning(
    script: str, warning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "monitor.py"
    fake.write_text(script)
    monkeypatch.setattr(process, "COMMAND", (sys.executable, str(fake)))
    assert run_main(tmp_path / "run", monitor="y") == 0
    log = RunDir(tmp_path / "run").log.read_text()
    assert log.count("warning") == log.count(warning) == 1


class GoneAway(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_listener_that_goes_away_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", GoneAway())
    assert run_main(tmp_path) == 0
    assert RunDir(tmp_path).log.read_text().count("epoch ") == 2


def test_a_log_that_is_already_stdout_gets_each_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder(tmp_path).log.open("a") as log:
        monkeypatch.setattr(sys, "stdout", log)
        assert run_main(tmp_path) == 0
    assert RunDir(tmp_path).log.read_text().count("epoch 1/2") == 1
