"""What a machine may run out of, and what breaks in one run only: the others end as if nothing had happened."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from tests.helpers.make_runner import (
    ROOT,
    copy_tree,
    end,
    epochs,
    matrix,
    only_run,
    outcome,
    past_epoch,
    processes_with,
    runs,
    same,
    settings,
    start,
    status,
    wait_for,
)


def limit(kind: int, size: int):
    """For a child: this resource limit, which its own children inherit."""
    return lambda: resource.setrlimit(kind, (size, size))


def test_a_full_disk_fails_the_run_that_meets_it_and_leaves_the_rest_whole(tree, tmp_path):
    # the checkpoint holds weights and buffers: two such parts for SGD, three for AdamW
    config = settings(tmp_path / "config", ("sgd", "adamw"), ("none",), LENET5_EPOCHS="2")
    results, part = tmp_path / "results", 4 * 61_750
    code, out, err = matrix(config, results, "JOBS=2", preexec_fn=limit(resource.RLIMIT_FSIZE, 5 * part // 2))
    assert code == 1 and "Traceback" not in out + err, out + err
    found = runs(results)
    done, failed = found["lenet5_sgd_none"], found["lenet5_adamw_none"]
    assert status(done)["state"] == "done" and epochs(done) == [1, 2]
    assert "File too large" in status(failed)["reason"] and not list(failed.glob(".*.tmp"))
    assert "File too large" in (results / "latest/summary.md").read_text()
    before = outcome(done)
    code, out, err = matrix(config, results)
    assert code == 0, out + err
    assert outcome(done) == before and epochs(failed) == [1, 2]


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one run and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4500k", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
def test_a_disk_without_space_fails_runs_with_the_reason_and_keeps_what_is_done(three, calm, small_disk):
    results = small_disk / "results"
    code, out, err = matrix(three, results, "JOBS=1")
    assert code == 1 and "Traceback" not in out + err, out + err
    assert "No space left on device" in out
    done = [name for name, folder in runs(results).items() if status(folder).get("state") == "done"]
    assert done and all(same(runs(results)[name], calm[name]) for name in done)
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    code, out, err = matrix(three, results)
    assert code == 0, out + err
    assert all(same(folder, calm[name]) for name, folder in runs(results).items())


def data_size_of_torch() -> int:
    """Bytes of private memory that a process has after importing torch, as RLIMIT_DATA counts them."""
    code = "import torch, torch._dynamo; print(open('/proc/self/status').read().split('VmData:')[1].split()[0])"
    return 1024 * int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_a_run_without_enough_memory_fails_with_peak_and_cause_and_the_others_go_on(tree, tmp_path):
    # a batch of 4096 needs some 3 GB of activations even in this narrow network
    config = settings(
        tmp_path / "config",
        ("adamw",),
        ("none",),
        ("lenet5", "resnet18"),
        LENET5_EPOCHS="1",
        RESNET18_EPOCHS="1",
        RESNET18_DATASET_SYNTHETIC="y",
        RESNET18_BATCH_SIZE="4096",
        RESNET18_WIDTH="4",
        RESNET18_THREADS="1",
        RESNET18_PRECISION_FP32="y",
        TRAIN_IMAGES="4096",
    )
    results = tmp_path / "results"
    enough = limit(resource.RLIMIT_DATA, data_size_of_torch() + 600 * 2**20)
    code, out, err = matrix(config, results, "JOBS=2", preexec_fn=enough)
    assert code == 1 and "Traceback" not in out + err, out + err
    found = runs(results)
    assert status(found["lenet5_adamw_none"])["state"] == "done"
    failed = status(found["resnet18_adamw_none"])
    assert failed["state"] == "failed"
    assert "out of memory" in failed["reason"] and "MiB" in failed["reason"] and "BATCH_SIZE" in failed["reason"]


def test_a_loss_that_is_no_number_is_diverged_and_stays_out_of_the_means(tree, tmp_path):
    config, results = settings(tmp_path / "config", ("sgd",), ("none",)), tmp_path / "results"
    code, out, err = matrix(config, results, "LEARNING_RATE=1e9")
    assert code == 1 and "diverged" in out, out + err
    folder = only_run(results)
    assert status(folder)["state"] == "diverged" and "loss" in status(folder)["reason"]
    for path in [*folder.glob("*.json*")]:
        assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    table = (results / "latest/summary.md").read_text()
    assert "1 diverged" in table and "0 of 1 run done" in table


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_monitor_that_dies_or_hangs_does_not_touch_the_run(calm, tmp_path, number):
    config, results = settings(tmp_path / "config", ("adamwprune",), ("state",)), tmp_path / "results"
    process = start(config, results, "MONITOR=y")
    try:
        folder = only_run(results)
        wait_for(past_epoch(folder, 1))
        (monitor,) = processes_with(f"lib.monitor.watch --pid {status(folder)['pid']}")
        os.kill(monitor.pid, number)
        out, err = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 0, out + err
    assert same(folder, calm[folder.name])
    assert (folder / "log.txt").read_text().count("warning: the monitor") == 1
    assert not processes_with(str(results))


def test_tensorboard_events_that_can_no_longer_be_written_are_told_once_and_do_not_touch_the_run(calm, tmp_path):
    config, results = settings(tmp_path / "config", ("adamwprune",), ("state",)), tmp_path / "results"
    process = start(config, results, "TENSORBOARD=y")
    try:
        folder = only_run(results)
        wait_for(past_epoch(folder, 1))
        shutil.rmtree(folder / "tensorboard")
        (folder / "tensorboard").touch()
        out, err = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 0, out + err
    assert same(folder, calm[folder.name])
    assert (folder / "log.txt").read_text().count("warning: no more TensorBoard events") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_tensorboard_that_dies_or_hangs_while_it_reads_does_not_touch_the_run(calm, tmp_path, number):
    pytest.importorskip("tensorboard")
    config, results = settings(tmp_path / "config", ("adamwprune",), ("state",)), tmp_path / "results"
    process = start(config, results, "TENSORBOARD=y")
    folder = only_run(results)
    board = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--load_fast=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(past_epoch(folder, 1))
        board.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        board.kill()
        board.wait()
        end(process)
    assert process.returncode == 0, out + err
    assert same(folder, calm[folder.name])
    assert "warning" not in (folder / "log.txt").read_text()


def test_torn_lines_and_leftovers_of_a_power_cut_are_repaired(calm, tmp_path):
    config, results = settings(tmp_path / "config", ("adamwprune",), ("state",)), tmp_path / "results"
    process = start(config, results, "MONITOR=y")
    try:
        folder = only_run(results)
        os.kill(wait_for(past_epoch(folder, 3)), signal.SIGKILL)
        process.communicate(timeout=60)
    finally:
        end(process)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 4, "train_lo')
    with (folder / "gpu.jsonl").open("ab") as file:
        file.write(b"\0" * 512)
    (folder / ".checkpoint.pt.4711.tmp").write_bytes(b"half")
    (folder / "status.json").write_bytes(b"\0" * 64)
    code, out, err = matrix(config, results, "MONITOR=y")
    assert code == 0, out + err
    assert same(folder, calm[folder.name]) and epochs(folder) == [1, 2, 3, 4, 5, 6]
    assert not list(folder.glob(".*.tmp"))
    graphs = subprocess.run(
        [sys.executable, str(ROOT / "scripts/update_graphs.py"), str(folder.parent)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert graphs.returncode == 0, graphs.stderr


def test_a_run_that_fails_at_its_first_step_stops_no_other(tmp_path):
    tree = copy_tree(tmp_path / "a tree with 'one' broken öptimizer")
    broken = tree / "lib/optimizers/adamwspam.py"
    source = broken.read_text()
    head = source.index("    def step(")
    body = source.index("\n", source.index(":\n", head) + 1)
    broken.write_text(source[:body] + '\n        raise RuntimeError("no step today")' + source[body:])
    config = settings(tmp_path / "config", ("sgd", "adamwspam"), ("none",), LENET5_EPOCHS="1")
    results = tmp_path / "results"
    code, out, err = matrix(config, results, "JOBS=2", tree=tree)
    assert code == 1 and "Traceback" not in out + err, out + err
    found = runs(results)
    assert status(found["lenet5_sgd_none"])["state"] == "done"
    failed = found["lenet5_adamwspam_none"]
    assert status(failed)["reason"] == "RuntimeError: no step today"
    assert "no step today" in (results / "latest/summary.md").read_text()
    assert "Traceback" in (failed / "log.txt").read_text()
