"""train.py as a process: exit codes, signals, locks, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.storage.files import read_json
from lib.storage.run_dir import RunDir
from lib.training import main as training_main
from lib.training.run_log import display_path
from tests.helpers.run_train_py import ROOT, TRAIN, epochs_done, options, run_main, start, wait_for
from tests.helpers.tiny_runs import assert_same_outcome, folder, lenet5, metrics, tiny

pytestmark = pytest.mark.usefixtures("signals_as_before")


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
        (["--optimizer", "adamwprune", "--target-sparsity", "1.5"], "target_sparsity=1.5: too large, allowed above"),
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
    assert training_main.main("lenet5", lenet5, [*options(), *words, "--output", str(output)]) == 2
    said = capsys.readouterr()
    expected = "put its four IDX files into /nowhere/MNIST/raw" if sentence == "fill" else sentence
    assert expected in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not output.exists()


def test_a_device_that_is_not_there_is_refused_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(training_main, "ROOT", tmp_path)  # where a run started by hand has its folder
    assert training_main.main("lenet5", lenet5, options(device="cuda")) == 2
    assert training_main.main("lenet5", lenet5, [*options(device="cuda"), "--output", str(tmp_path / "a" / "b")]) == 2
    assert capsys.readouterr().err.count("DEVICE=cuda, but torch sees no GPU here") == 2
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_a_folder_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_main(tmp_path / "file") == 2
    assert run_main(tmp_path / "file" / "run") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_config_file_is_a_run_and_options_override_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(tiny("sgd", epochs=1).to_yaml())
    words = ["--config", str(file), "--seed", "7", "--output", str(tmp_path / "run")]
    assert training_main.main("lenet5", lenet5, words) == 0
    summary = read_json(RunDir(tmp_path / "run").summary)
    assert (summary["optimizer"], summary["seed"], summary["epochs"]) == ("sgd", 7, 1)


@pytest.mark.parametrize(
    ("optimizer", "method", "field"),
    [
        ("adamw", "magnitude", "pruning_end"),
        ("adamwprune", "state", "mode"),
        ("adamwprune", "state", "exponent"),
        ("adamwadv", "none", "clip_norm"),
    ],
)
def test_a_config_file_without_a_setting_of_its_method_is_refused_by_name(
    optimizer: str, method: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    lines = tiny(optimizer, method, 0.5).to_yaml().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith(f"{field}:")))
    assert training_main.main("lenet5", lenet5, ["--config", str(file), "--output", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"{file}: {field}: missing\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pruning_method": "movement"}, "pruning_method=movement: state goes with adamwprune only"),
        ({"optimizer": "sgd"}, "pruning_method=state: state goes with adamwprune only"),
        ({"pruning_method": "none"}, "target_sparsity=0.5: needs a pruning method"),
        ({"width": 16}, "width=16: does not apply to adamwprune with state"),
    ],
)
def test_a_config_file_with_what_does_not_go_together_is_refused(
    changes: dict, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(tiny("adamwprune", "state", 0.5).changed(**changes).to_yaml())
    assert training_main.main("lenet5", lenet5, ["--config", str(file), "--output", str(tmp_path / "run")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_changed_configuration_is_refused_with_the_keys_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(tmp_path) == 0
    before = RunDir(tmp_path).status.read_text()
    assert run_main(tmp_path, learning_rate=0.1, seed=3) == 2
    said = capsys.readouterr().err
    assert "seed=3: this run was started with 0" in said and "learning_rate=0.1" in said
    assert RunDir(tmp_path).status.read_text() == before
    assert run_main(tmp_path, epochs=3) == 0
    assert epochs_done(tmp_path) == 3


def test_a_second_writer_exits_at_once_naming_the_holder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder(tmp_path).lock():
        assert run_main(tmp_path) == 2
    assert f"{tmp_path} is in use by process {os.getpid()}" in capsys.readouterr().err


# Signals


LONGER = {"epochs": 12, "optimizer": "adamwprune", "pruning_interval": 3}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert run_main(output, **LONGER) == 0
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
    seen = display_path(tmp_path)
    assert f"--output {seen}" in out.splitlines()[-1]  # the folder without which nobody can go on
    status = RunDir(tmp_path).read_status()
    assert (status["state"], status["exit_code"]) == ("interrupted", code)
    assert epochs_done(tmp_path) < 12
    assert run_main(tmp_path, **LONGER) == 0
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
