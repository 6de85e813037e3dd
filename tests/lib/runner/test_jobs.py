"""How many runs the runner has at a time, in which places, and what it shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.fake_tree import (
    ROOT,
    RUNS,
    THREE_RUNS,
    behave,
    end,
    folders,
    make_tree,
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


def test_two_jobs_run_two_at_a_time(tree):
    behave(tree, {run_id: ["slow"] for run_id in RUNS})
    process = start(tree, *THREE_RUNS, "JOBS=2")
    try:
        wait_for(lambda: len(started(tree)) == 2)
        time.sleep(0.5)
        assert len(started(tree)) == 2
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        end(process)


def test_odd_places_work(tmp_path):
    name = "with spaces, 'quotes\" and ümläute " + "x" * 160
    tree = make_tree(tmp_path / name)
    elsewhere = tmp_path / "results of öthers"
    real = tmp_path / "real config"
    real.write_text("CONFIG_MODEL_LENET5=y\nCONFIG_LENET5_DATASET_SYNTHETIC=y\nCONFIG_LENET5_EPOCHS=1\n")
    (tree / ".config").symlink_to(real)
    process = subprocess.run(
        [sys.executable, str(tree / "scripts/run_matrix.py"), f"RESULTS_DIR={elsewhere}"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (elsewhere / "latest/summary.md").exists() and not (tree / "results").exists()


def test_variables_that_happen_to_be_set_have_no_effect(tree):
    stray = {"srctree": "/nowhere", "CONFIG_": "X_", "KCONFIG_CONFIG": "/nowhere", "EPOCHS": "9", "MODEL": "none"}
    assert run(tree, *THREE_RUNS, **stray)[0] == 0
    (folder,) = folders(tree)
    assert "epochs: 2\n" in (folder / RUNS[0] / "config.yaml").read_text()


@contextlib.contextmanager
def read_only(tree: Path, writable: Path):
    """The tree without write permissions but for one file; for a superuser, who needs none, mounted read-only."""
    before = [tree, *tree.rglob("*")]
    for path in before:
        if path != writable:
            path.chmod(path.stat().st_mode & ~0o222)
    mounted = []
    try:
        for path, how in ((tree, "ro"), (writable, "rw")) if os.geteuid() == 0 else ():
            if subprocess.run(["mount", "--bind", path, path], capture_output=True).returncode == 0:
                mounted.insert(0, path)
                subprocess.run(["mount", "-o", f"remount,bind,{how}", path], check=True)
        assert not mounted or not os.access(tree, os.W_OK)
        yield
    finally:
        for path in mounted:
            subprocess.run(["umount", path], check=True)
        for path in before:
            path.chmod(path.stat().st_mode | 0o200)


def test_a_read_only_checkout_works_with_results_elsewhere(tree, tmp_path):
    record = tree / "started.txt"  # the stand-in's own
    record.touch()
    before = sorted(tree.rglob("*"))
    with read_only(tree, record):
        code, out, err = run(tree, *THREE_RUNS, f"RESULTS_DIR={tmp_path / 'out'}")
    assert (code, err) == (0, ""), out
    assert sorted(tree.rglob("*")) == before


def test_make_twice_at_once_and_in_parallel_trains_nothing_twice(tree):
    shutil.copy(ROOT / "Makefile", tree)
    shutil.copy(ROOT / "requirements.txt", tree)
    behave(tree, {run_id: ["slow"] for run_id in RUNS[:1]})
    command = ["make", "-j8", f"PYTHON={sys.executable}", *THREE_RUNS, "JOBS=1"]
    first = subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: running(tree, RUNS[0]))
        second = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2 and "is in use by process" in second.stderr
        os.killpg(first.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
        first.wait(30)
    finally:
        end(first)
    assert started(tree) == [RUNS[0]] and state(folders(tree)[0], RUNS[0])["state"] == "interrupted"


def test_a_torch_built_for_cpus_only_is_told_apart(monkeypatch, tmp_path):
    from types import SimpleNamespace

    from lib.runner import environment

    (tmp_path / "version.py").write_text(
        "__version__ = '2.99.0+cpu'\ncuda: str | None = None\nhip: str | None = None\n"
    )
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    monkeypatch.setattr(environment, "gpus", lambda: ["one"])
    assert environment.why_no_cuda() == "torch 2.99.0+cpu is built for CPUs only"
    (tmp_path / "version.py").write_text("__version__ = '2.99.0+cu132'\ncuda: str | None = '13.2'\nhip = None\n")
    assert environment.why_no_cuda() is None


def test_automatic_jobs_fill_the_cores_and_share_a_gpu_as_far_as_its_memory_goes(monkeypatch):
    from dataclasses import dataclass

    from lib.memory_estimate import gpu_packing
    from lib.runner import checks, environment
    from lib.runner.checks import automatic_jobs

    @dataclass
    class Config:
        device: str
        threads: int

    monkeypatch.setattr(checks, "cores", lambda: 8)
    monkeypatch.setattr(environment, "torch_build", lambda: {"__version__": "2.99.0", "cuda": "13.2"})
    monkeypatch.setattr(environment, "gpus", list)
    assert automatic_jobs([Config("auto", 1), Config("auto", 2)]) == 4
    assert automatic_jobs([Config("auto", 1), Config("auto", 0)]) == 1
    assert automatic_jobs([Config("auto", 32)]) == 1
    monkeypatch.setattr(environment, "gpus", lambda: ["one"])
    monkeypatch.setattr(gpu_packing, "free_mib", lambda: None)
    assert automatic_jobs([Config("auto", 1)]) == 1
    assert automatic_jobs([Config("cpu", 1)]) == 8
    monkeypatch.setattr(gpu_packing, "free_mib", lambda: 8000.0)
    monkeypatch.setattr(gpu_packing, "runs_per_gpu", lambda configs, mib: 3 if mib == 8000.0 else 0)
    assert automatic_jobs([Config("auto", 1)] * 5) == 3
    monkeypatch.setattr(checks, "cores", lambda: 2)
    assert automatic_jobs([Config("auto", 1)] * 5) == 2
    monkeypatch.setattr(environment, "torch_build", lambda: {"__version__": "2.99.0+cpu"})
    assert automatic_jobs([Config("auto", 0)] * 5) == 1  # such a torch trains on the CPU


def test_on_a_terminal_a_table_fits_the_screen_and_shows_progress(tree):
    import pty
    import select

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="100", LINES="12")
        os.execv(sys.executable, [sys.executable, str(tree / "scripts/run_matrix.py"), "JOBS=1", *THREE_RUNS])
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the runner has ended
                break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    text = seen.decode()
    assert "accuracy %" in text and "2/2" in text and "50.00" in text and "3 done" in text
