"""train.py as a process: exit codes, signals, locks, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib import entry, sampler
from lib.files import read_json
from lib.rundir import RunDir
from tests.lib.training import assert_same_outcome, folder, lenet5, metrics, tiny

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "lenet5" / "train.py")


def options(**changes: Any) -> list[str]:
    """A run of a few seconds: --name value for each field that differs from its default."""
    small = {"dataset": "mnist5k", "train_images": 256, "batch_size": 64, "epochs": 2, "threads": 1, "monitor": "n"}
    return [word for name, value in (small | changes).items() for word in (f"--{name.replace('_', '-')}", str(value))]


def start(*words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, TRAIN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def epochs_done(path: Path) -> int:
    return len(metrics(path)) if RunDir(path).metrics.exists() else 0


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """main() called in this process leaves its handlers behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def main(output: Path, build_model: Any = lenet5, **changes: Any) -> int:
    return entry.main("lenet5", build_model, [*options(**changes), "--output", str(output)])


# From the command line


def test_a_run_in_a_process_of_its_own_from_another_folder(tmp_path: Path) -> None:
    """Names with spaces, quotes and umlauts; one line per epoch; started again it is done already."""
    output = tmp_path / "ein 'Lauf' für \"mich\""
    words = [*options(optimizer="adamwprune", target_sparsity=0.5, monitor="y", monitor_interval=0.1)]
    process = start(*words, "--output", output.name, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4 and lines[1].startswith("epoch 1/2: train loss")
    run = RunDir(output)
    summary = read_json(run.summary)
    assert lines[-1] == (
        f"done: test accuracy {summary['final_accuracy']:.2f} %, sparsity 50.0 %; results in {output.name}"
    )
    assert run.log.read_text() == out
    status = run.read_status()
    assert (status["state"], status["exit_code"], status["epoch"], status["pid"]) == ("done", 0, 2, process.pid)
    assert run.gpu.exists()
    again = start(*words, "--output", output.name, cwd=tmp_path)
    assert again.communicate(timeout=60)[0] == f"{output.name} is done already: 2 epochs\n"
    assert again.returncode == 0 and len(metrics(output)) == 2


def test_help_lists_every_option_with_default_and_range_without_torch() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "resnet18" / "train.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    for word in ("Train ResNet-18", "--width WIDTH", "4 to 512; default 64", "--target-sparsity", "--criterion"):
        assert word in text
    assert "| torch\n" not in shown.stderr


def test_the_module_can_be_run_too() -> None:
    command = [sys.executable, "-m", "resnet18.train", "--epochs", "0"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 2
    assert shown.stderr == "epochs=0: too small, allowed 1 to 10000\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epoch", "3"], "--epoch: no such option (did you mean --epochs"),
        (["--epochs", "three"], "epochs=three: not a whole number, allowed 1 to 10000"),
        (["--learning-rate", "nan"], "learning_rate=nan: not a finite number"),
        (["--optimizer", "adamw9"], "optimizer=adamw9: unknown, allowed sgd, adam"),
        (["--pruning-method", "state"], "state goes with adamwprune only"),
        (["--optimizer", "adamwprune", "--target-sparsity", "1.5"], "target_sparsity=1.5: too large, allowed 0 to"),
        (["--target-sparsity", "0.5"], "target_sparsity=0.5: needs a pruning method"),
        (["--batch-size", ""], "--batch-size: empty value"),
        (["--dataset", "mnist", "--data-dir", "/nowhere", "--download", "n"], "fill"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
        (["--train-images", "5000"], "mnist5k has 4000 training images"),
    ],
)
def test_wrong_usage_is_one_sentence_exit_2_and_nothing_written(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert entry.main("lenet5", lenet5, [*options(), *words, "--output", str(output)]) == 2
    said = capsys.readouterr()
    expected = "put its four IDX files into /nowhere/MNIST/raw" if sentence == "fill" else sentence
    assert expected in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not output.exists()


def test_an_output_that_cannot_be_a_folder_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(tmp_path / "file") == 2
    assert main(tmp_path / "file" / "run") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_config_file_is_a_run_and_options_override_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(tiny("sgd", epochs=1).to_yaml())
    words = ["--config", str(file), "--seed", "7", "--output", str(tmp_path / "run")]
    assert entry.main("lenet5", lenet5, words) == 0
    summary = read_json(RunDir(tmp_path / "run").summary)
    assert (summary["optimizer"], summary["seed"], summary["epochs"]) == ("sgd", 7, 1)


def test_a_changed_configuration_is_refused_with_the_keys_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path) == 0
    before = RunDir(tmp_path).status.read_text()
    assert main(tmp_path, learning_rate=0.1, seed=3) == 2
    said = capsys.readouterr().err
    assert "seed=3: this run was started with 0" in said and "learning_rate=0.1" in said
    assert RunDir(tmp_path).status.read_text() == before
    assert main(tmp_path, epochs=3) == 0
    assert epochs_done(tmp_path) == 3


def test_a_second_writer_exits_at_once_naming_the_holder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder(tmp_path).lock():
        assert main(tmp_path) == 2
    assert f"{tmp_path} is in use by process {os.getpid()}" in capsys.readouterr().err


# Signals


LONGER = {"epochs": 12, "optimizer": "adamwprune", "pruning_interval": 3}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert main(output, **LONGER) == 0
    return output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_once_saves_and_the_next_start_ends_like_an_undisturbed_run(
    number: signal.Signals, code: int, tmp_path: Path, undisturbed: Path
) -> None:
    process = start(*options(**LONGER), "--output", str(tmp_path))
    wait_for(lambda: epochs_done(tmp_path) >= 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    seen = entry.seen_from_here(tmp_path)
    assert f"--output {seen}" in out.splitlines()[-1]  # the folder without which nobody can go on
    status = RunDir(tmp_path).read_status()
    assert (status["state"], status["exit_code"]) == ("interrupted", code)
    assert epochs_done(tmp_path) < 12
    assert main(tmp_path, **LONGER) == 0
    assert_same_outcome(tmp_path, undisturbed)


def test_a_signal_twice_ends_at_once(tmp_path: Path) -> None:
    """Steps of half a minute: the first Ctrl-C waits for one, the second does not."""
    process = start(*options(dataset="synthetic", batch_size=4000, train_images=0), "--output", str(tmp_path))
    wait_for(lambda: RunDir(tmp_path).phase.exists())
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_run_ends_by_itself_when_its_runner_is_killed(tmp_path: Path) -> None:
    runner = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], env={**os.environ, 'ADAMWPRUNE_PARENT': str(os.getpid())})\n"
        "time.sleep(600)\n"
    )
    words = [sys.executable, TRAIN, *options(epochs=2000), "--output", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", runner, *words], stdout=subprocess.DEVNULL)
    wait_for(lambda: epochs_done(tmp_path) >= 1)
    process.kill()
    process.wait()
    wait_for(lambda: RunDir(tmp_path).read_status()["state"] == "interrupted", 30)
    with RunDir(tmp_path).lock(wait=10):  # nobody writes any more
        pass


# Failures


def test_a_failing_run_is_recorded_with_its_reason_and_the_traceback_in_the_log(tmp_path: Path) -> None:
    def build(config: Any, data: Any) -> nn.Module:
        raise ValueError("no such layer\nin this model")

    assert main(tmp_path, build) == 1
    status = RunDir(tmp_path).read_status()
    assert (status["state"], status["reason"], status["exit_code"]) == ("failed", "ValueError: no such layer", 1)
    assert "Traceback" in RunDir(tmp_path).log.read_text()


def test_divergence_is_recorded_as_such(tmp_path: Path) -> None:
    assert main(tmp_path, optimizer="sgd", learning_rate="1e9") == 1
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
        assert main(output, build) == 1
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
    monkeypatch.setattr(sampler, "SCRIPT", fake)
    assert main(tmp_path / "run", monitor="y") == 0
    log = RunDir(tmp_path / "run").log.read_text()
    assert log.count("warning") == log.count(warning) == 1


class GoneAway(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_listener_that_goes_away_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", GoneAway())
    assert main(tmp_path) == 0
    assert RunDir(tmp_path).log.read_text().count("epoch ") == 2


def test_a_log_that_is_already_stdout_gets_each_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder(tmp_path).log.open("a") as log:
        monkeypatch.setattr(sys, "stdout", log)
        assert main(tmp_path) == 0
    assert RunDir(tmp_path).log.read_text().count("epoch 1/2") == 1
