"""The runner starts a matrix and goes on with one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.fake_tree import (
    ROOT,
    RUNS,
    THREE_RUNS,
    behave,
    end,
    folders,
    make_tree,
    matrix_of,
    run,
    running,
    start,
    started,
    state,
    wait_for,
)


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


# --- starting


def test_the_runner_starts_in_half_a_second_without_torch():
    code = (
        "import sys, time, scripts.run_matrix\n"
        "print(time.process_time(), [m for m in ('torch', 'matplotlib', 'rich') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        taken, imported = out.stdout.split(maxsplit=1)
        seconds.append(float(taken))
        assert imported.strip() == "[]"
    assert min(seconds) < 0.5


def test_all_runs_are_trained_and_the_folder_is_complete(tree):
    code, out, err = run(tree, *THREE_RUNS)
    assert (code, err) == (0, "")
    assert "3 runs" in out.splitlines()[-1] and "3 done" in out.splitlines()[-1]
    (folder,) = folders(tree)
    assert sorted(started(tree)) == sorted(RUNS)
    assert sorted(matrix_of(folder)["runs"]) == sorted(RUNS)
    assert (tree / "results/latest").resolve() == folder.resolve()
    for name in ("matrix.yaml", "config", "environment.json", "summary.csv", "summary.md"):
        assert (folder / name).stat().st_size > 0
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] and environment["device"] and environment["cores"] >= 1
    assert environment["git"] == {"commit": None, "dirty": None}  # the copied tree is no repository
    for run_id in RUNS:
        assert state(folder, run_id)["state"] == "done"
        assert (folder / run_id / "config.yaml").exists()


def test_output_that_is_no_terminal_has_one_line_per_event(tree):
    _, out, _ = run(tree, *THREE_RUNS)
    assert "\x1b" not in out
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert len(lines) == 6
    assert "accuracy 50.00 %" in lines[1]


def test_nobody_reading_the_output_is_no_reason_to_stop(tree):
    behave(tree, {RUNS[0]: ["slow"]})
    process = start(tree, *THREE_RUNS, "RETRIES=0")
    try:
        wait_for(lambda: running(tree, RUNS[0]) or started(tree))
        process.stdout.close()
        behave(tree, {})
        os.kill(int((tree / "started.txt").read_text().split()[1]), signal.SIGKILL)
        process.wait(60)
        assert sorted(started(tree)) == sorted(RUNS)
    finally:
        end(process)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["EPOCHS=three"], "EPOCHS=three"),
        (["EPOCH=3"], "did you mean EPOCHS"),
        (["LEARNING_RATE=nan"], "LEARNING_RATE=nan"),
        (["TARGET_SPARSITY=1.5"], "TARGET_SPARSITY=1.5"),
        (["nonsense"], "NAME=value"),
        (["--continue"], "to go on with"),
        (["--continue", "--rerun"], "not allowed with"),
        (["--config", "no-such-file"], "no-such-file"),
        (["LENET5_DATASET=mnist", "DATA_DIR=nowhere", "DOWNLOAD=n"], "nowhere"),
        (["DATASET=synthetic", "DEVICE=cuda", "MODEL=lenet5"], "DEVICE=auto"),
        (["RESULTS_DIR=~nobody-here/x"], "RESULTS_DIR=~nobody-here/x"),
        (["--continue", "RESULTS_DIR=~nobody-here/x"], "RESULTS_DIR=~nobody-here/x"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence_and_nothing_is_written(tree, arguments, sentence):
    before = sorted(tree.rglob("*"))
    code, out, err = run(tree, *arguments, CUDA_VISIBLE_DEVICES="")
    assert code == 2 and out == ""
    assert sentence in err and "Traceback" not in err
    assert [p for p in sorted(tree.rglob("*")) if p not in before and "__pycache__" not in str(p)] == []


def test_every_problem_of_a_config_is_told_at_once_with_its_line_and_nothing_is_written(tree):
    problems = {
        1: ("<<<<<<< HEAD", "<<<<<<< HEAD: a merge-conflict marker; resolve the conflict"),
        2: ("CONFIG_LENET5_EPOCHS=2", None),
        3: ("=======", "=======: a merge-conflict marker; resolve the conflict"),
        4: ("CONFIG_LENET5_EPOCHS=3", "LENET5_EPOCHS=3: assigned before in line 2"),
        5: (">>>>>>> theirs", ">>>>>>> theirs: a merge-conflict marker; resolve the conflict"),
        6: ("CONFIG_LENET5_EPOCH=3", "LENET5_EPOCH=3: no such symbol (did you mean LENET5_EPOCHS"),
        7: ("CONFIG_SEEDS=0", "SEEDS=0: too small, allowed 1 to 1000"),
    }
    (tree / ".config").write_text("".join(f"{line}\n" for line, _ in problems.values()))
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    code, out, err = run(tree, PYTHONDONTWRITEBYTECODE="1")
    assert (code, out) == (2, "")
    expected = [f".config:{number}: {problem}" for number, (_, problem) in problems.items() if problem]
    lines = err.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(problem) for line, problem in zip(lines, expected, strict=True)), err
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("hidden", ["", "-1", "GPU-00000000-0000-0000-0000-000000000000", "17"])
def test_a_gpu_that_is_hidden_or_not_there_is_refused_with_the_way_out(tree, hidden):
    code, _, err = run(tree, *THREE_RUNS, "DEVICE=cuda", CUDA_VISIBLE_DEVICES=hidden)
    assert code == 2 and len(err.splitlines()) == 1
    assert "DEVICE=auto" in err and "CUDA_VISIBLE_DEVICES" in err


def test_a_file_in_place_of_the_results_directory_is_refused(tree):
    (tree / "results").touch()
    code, _, err = run(tree, *THREE_RUNS)
    assert code == 2 and len(err.splitlines()) == 1 and "results cannot be written" in err
    assert started(tree) == []


def test_a_results_directory_that_cannot_be_written_is_refused(tree):
    # /proc refuses new files to everyone, the superuser of a container included
    code, _, err = run(tree, *THREE_RUNS, "RESULTS_DIR=/proc/results")
    assert code == 2 and len(err.splitlines()) == 1 and "/proc/results" in err
    assert started(tree) == []


# --- going on


def test_the_same_command_again_keeps_what_is_done(tree):
    run(tree, *THREE_RUNS)
    code, out, _ = run(tree, *THREE_RUNS)
    assert code == 0 and "make rerun" in out and len(out.splitlines()) == 1
    assert len(started(tree)) == 3 and len(folders(tree)) == 1


def test_a_failed_run_stops_no_other_and_is_run_again(tree):
    behave(tree, {RUNS[0]: ["fail"]})
    code, out, _ = run(tree, *THREE_RUNS)
    (folder,) = folders(tree)
    assert code == 1
    assert f"{RUNS[0]}: failed: RuntimeError: the sky fell" in out
    assert state(folder, RUNS[0])["reason"] == "RuntimeError: the sky fell"
    assert "Traceback" in (folder / RUNS[0] / "log.txt").read_text()
    assert "the sky fell" in (folder / "summary.md").read_text()
    behave(tree, {})
    code, out, _ = run(tree, *THREE_RUNS)
    assert code == 0 and len(folders(tree)) == 1
    assert started(tree)[3:] == [RUNS[0]]


def test_when_all_runs_fail_the_summary_is_written_and_names_each(tree):
    behave(tree, {run_id: ["import-error"] for run_id in RUNS})
    code, out, _ = run(tree, *THREE_RUNS)
    (folder,) = folders(tree)
    assert code == 1 and "3 failed" in out.splitlines()[-1]
    text = (folder / "summary.md").read_text()
    assert all(run_id in text for run_id in RUNS) and "no_such_module" in text


def test_a_diverged_run_counts_as_not_done_but_is_not_trained_again(tree):
    behave(tree, {RUNS[1]: ["diverge"]})
    assert run(tree, *THREE_RUNS)[0] == 1
    code, out, _ = run(tree, *THREE_RUNS)
    assert code == 1 and "1 diverged" in out
    assert len(started(tree)) == 3


@pytest.mark.parametrize(
    ("word", "name", "cause"), [("segv", "SIGSEGV", "native"), ("once-killed", "SIGKILL", "memory")]
)
def test_a_killed_run_is_failed_with_signal_cause_and_peak_memory(tree, word, name, cause):
    behave(tree, {RUNS[1]: [word]})
    code, _, _ = run(tree, *THREE_RUNS, "RETRIES=0")
    (folder,) = folders(tree)
    status = state(folder, RUNS[1])
    assert code == 1 and status["state"] == "failed"
    assert name in status["reason"] and cause in status["reason"] and "MiB" in status["reason"]
    assert state(folder, RUNS[2])["state"] == "done"
    behave(tree, {})
    assert run(tree, *THREE_RUNS)[0] == 0 and len(folders(tree)) == 1


def test_another_configuration_starts_another_folder(tree):
    run(tree, *THREE_RUNS)
    code, _, _ = run(tree, *THREE_RUNS, "SEED=1")
    assert code == 0 and len(folders(tree)) == 2
    assert run(tree, *THREE_RUNS, "EPOCHS=3")[0] == 0
    assert len(folders(tree)) == 3


def test_rerun_starts_a_fresh_folder(tree):
    run(tree, *THREE_RUNS)
    assert run(tree, "--rerun", *THREE_RUNS)[0] == 0
    assert len(folders(tree)) == 2 and len(started(tree)) == 6


def test_continue_needs_no_repetition_of_the_command_line(tree):
    behave(tree, {RUNS[2]: ["fail"]})
    run(tree, *THREE_RUNS)
    behave(tree, {})
    code, _, err = run(tree, "--continue")
    assert (code, err) == (0, "")
    assert len(folders(tree)) == 1 and started(tree)[3:] == [RUNS[2]]


def test_a_received_folder_is_resumed_where_it_lies_not_where_it_says(tree, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert run(tree, *THREE_RUNS, f"RESULTS_DIR={elsewhere}")[0] == 0
    (tree / "results").mkdir()
    (folder,) = [path for path in elsewhere.iterdir() if path.is_dir() and not path.is_symlink()]
    folder.rename(tree / "results" / folder.name)
    (elsewhere / "latest").unlink()
    before = sorted(elsewhere.iterdir())
    code, _, err = run(tree, "--continue", "EPOCHS=3")
    assert (code, err) == (0, "")
    assert sorted(elsewhere.iterdir()) == before
    assert len((folders(tree)[0] / RUNS[0] / "metrics.jsonl").read_text().splitlines()) == 3


def test_continue_trains_done_runs_further_when_epochs_grow(tree):
    run(tree, *THREE_RUNS)
    code, _, err = run(tree, "--continue", "EPOCHS=5")
    assert (code, err) == (0, "")
    (folder,) = folders(tree)
    for run_id in RUNS:
        epochs = [json.loads(line)["epoch"] for line in (folder / run_id / "metrics.jsonl").read_text().splitlines()]
        assert epochs == [1, 2, 3, 4, 5]
        assert "epochs: 5" in (folder / run_id / "config.yaml").read_text()
    assert run(tree, "--continue")[0] == 0  # remembers that the epochs have grown
    assert len(started(tree)) == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["BATCH_SIZE=64"], "batch_size: 256 there, 64 here"),
        (["EPOCHS=1"], "epochs: 2 there, 1 here"),
        (["SEED=3"], "seed: 0 there, 3 here"),
        (["OPTIMIZER=sgd"], "run lenet5_adam_none is missing"),
        (["BATCH_SIZE=64", "EPOCHS=9"], "batch_size"),
    ],
)
def test_continue_refuses_a_changed_configuration_and_names_the_keys(tree, change, sentence):
    run(tree, *THREE_RUNS)
    code, out, err = run(tree, "--continue", *change)
    assert code == 2 and sentence in err and out == ""
    assert len(started(tree)) == 3 and len(folders(tree)) == 1


def test_a_matrix_in_yaml_is_trained_and_gone_on_with(tree):
    asked = "models: [lenet5]\noptimizers: [sgd, adam]\npruning_methods: [none]\nseeds: [3, 5]\n"
    (tree / "my.yaml").write_text(asked + "overrides: {LENET5_DATASET: synthetic, EPOCHS: 2}\n")
    behave(tree, {"lenet5_sgd_none_seed5": ["fail"]})
    code, out, err = run(tree, "--config", "my.yaml")
    assert code == 1, out + err
    (folder,) = folders(tree)
    assert folder.name.startswith("my-") and len(matrix_of(folder)["runs"]) == 4
    behave(tree, {})
    for arguments in (["--continue"], ["--config", "my.yaml"], ["--continue", "--config", "my.yaml", "EPOCHS=3"]):
        code, _, err = run(tree, *arguments)
        assert (code, err) == (0, "")
    assert len(folders(tree)) == 1 and len(started(tree)) == 4 + 1 + 4


def test_continue_sees_a_change_of_dot_config(tree):
    source = "CONFIG_MODEL_LENET5=y\nCONFIG_LENET5_DATASET_SYNTHETIC=y\nCONFIG_LENET5_EPOCHS=2\n"
    (tree / ".config").write_text(source)
    assert run(tree)[0] == 0
    assert run(tree, "--continue")[0] == 0
    (tree / ".config").write_text(source + "CONFIG_LENET5_BATCH_SIZE=32\n")
    code, _, err = run(tree, "--continue")
    assert code == 2 and "batch_size: 256 there, 32 here" in err


def test_damaged_records_of_a_run_only_mean_that_it_is_trained_again(tree):
    run(tree, *THREE_RUNS)
    (folder,) = folders(tree)
    (folder / RUNS[0] / "status.json").write_bytes(b"\0\0\0")
    (folder / RUNS[1] / "config.yaml").write_bytes(b"model: {")
    (folder / RUNS[2] / "summary.json").write_text('{"epochs": 2, "fin')
    code, _, err = run(tree, *THREE_RUNS)
    assert (code, err) == (0, "")
    assert sorted(started(tree)[3:]) == sorted([RUNS[0], RUNS[2]])
