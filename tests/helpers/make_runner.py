"""Real matrices on synthetic images, small enough for seconds, and the faults that are done to their processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from lib.storage.project import ROOT

TREE = ROOT  # conftest.py sets a copy of it

# Fifteen steps an epoch, a mask update every third, the ramp over most of the run.
SETTINGS = {
    "PRESET": '"fault"',
    "LENET5_DATASET_SYNTHETIC": "y",
    "LENET5_BATCH_SIZE": "64",
    "LENET5_EPOCHS": "6",
    "TRAIN_IMAGES": "960",
    "DEVICE_CPU": "y",
    "MONITOR": "n",
    "RETRIES": "0",  # what is killed here stays so
}
PRUNING = {"PRUNING_INTERVAL": "3", "PRUNING_START": '"0.1"', "PRUNING_END": '"0.9"'}
BOXES = {
    "MODEL": ("lenet5", "resnet18"),
    "OPTIMIZER": ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune"),
    "PRUNING": ("none", "magnitude", "movement", "state"),
    "SPARSITY": ("50", "70", "80", "90", "95", "98"),
}
PRUNED = ("movement", "state")  # AdamWPrune by its states, all others by movement
# What a second training of the same run may change: how long it took, and when.
TIMES = ("time", "epoch_seconds", "evaluation_seconds", "images_per_second")


def settings(
    path: Path, optimizers: Iterable[str], methods: Iterable[str], models: Iterable[str] = ("lenet5",), **more: str
) -> Path:
    """A configuration file for run_matrix.py; `more` are further symbols as they stand in such a file."""
    prunes = set(methods) != {"none"}
    ticked = {"MODEL": models, "OPTIMIZER": optimizers, "PRUNING": methods} | ({"SPARSITY": ("90",)} if prunes else {})
    symbols = SETTINGS | (PRUNING if prunes else {}) | more
    if "lenet5" not in models:
        symbols = {name: value for name, value in symbols.items() if not name.startswith("LENET5_")}
    lines = [f"CONFIG_{name}={value}" for name, value in symbols.items()]
    for axis, chosen in ticked.items():
        lines += [f"CONFIG_{axis}_{name.upper()}={'y' if name in chosen else 'n'}" for name in BOXES[axis]]
    path.write_text("\n".join(lines) + "\n")
    return path


def copy_tree(target: Path) -> Path:
    """A copy of the code: tests do not meet the .config of whoever works here, nor his changes of the moment."""
    for name in ("lib", "scripts", "lenet5", "resnet18", "defconfigs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Kconfig", "Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, target)
    return target


def start(config: Path, results: Path, *arguments: str, tree: Path | None = None, **options: Any) -> subprocess.Popen:
    """The matrix runner in a session of its own."""
    command = [sys.executable, str((tree or TREE) / "scripts/run_matrix.py"), "--config", str(config)]
    return subprocess.Popen(
        [*command, f"RESULTS_DIR={results}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def matrix(
    config: Path, results: Path, *arguments: str, timeout: float = 600.0, **options: Any
) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a matrix that ends by itself."""
    process = start(config, results, *arguments, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        end(process)
    return process.returncode, out, err


def runs(results: Path) -> dict[str, Path]:
    """The run folders of the newest results folder, by id."""
    newest = (results / "latest").resolve()
    return {path.parent.name: path.parent for path in sorted(newest.glob("*/config.yaml"))}


def status(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "status.json").read_text())
    except FileNotFoundError:
        return {}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """What must not depend on what happened on the way: the final weights, and the metrics without times."""
    kept = [{key: value for key, value in record.items() if key not in TIMES} for record in records(folder)]
    return (folder / "model.safetensors").read_bytes(), kept


def same(a: Path, b: Path) -> bool:
    """Whether two runs ended alike, bit for bit."""
    weights_a, metrics_a = outcome(a)
    weights_b, metrics_b = outcome(b)
    return weights_a == weights_b and metrics_a == metrics_b


def epochs(folder: Path) -> list[int]:
    return [record["epoch"] for record in records(folder)]


def only_run(results: Path) -> Path:
    """The folder of the only run, as soon as there is one."""
    wait_for(lambda: (results / "latest").exists())
    (folder,) = runs(results).values()
    return folder


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def past_epoch(folder: Path, epoch: int) -> Callable[[], int | None]:
    """A condition: the run trains and has finished that many epochs; its value is the process number."""

    def reached() -> int | None:
        now = status(folder)
        return now["pid"] if now.get("state") == "running" and now.get("epoch", 0) >= epoch else None

    return reached


def kill_each(process: subprocess.Popen, results: Path, count: int, epoch: int) -> None:
    """Kill the training of every one of `count` runs once, some way into the epoch after `epoch`."""
    killed: set[str] = set()
    while len(killed) < count:
        assert process.poll() is None, "all was over before every run was killed"
        for name, folder in runs(results).items():
            if name not in killed and (pid := past_epoch(folder, epoch)()):
                time.sleep(0.015 * len(killed))  # at another place of the epoch each time
                os.kill(pid, signal.SIGKILL)
                killed.add(name)
        time.sleep(0.005)


def processes_with(text: str) -> list[psutil.Process]:
    """Living processes with `text` in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(process: subprocess.Popen) -> None:
    """Leave nothing behind, whatever a test found."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
