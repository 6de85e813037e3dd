"""Runs of LeNet-5 started as a user starts them: train.py as a process, or its main() in this one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lib.storage.project import ROOT
from lib.storage.run_dir import RunDir
from lib.training.main import main
from tests.helpers.tiny_runs import lenet5, metrics

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


def run_main(output: Path, build_model: Any = lenet5, **changes: Any) -> int:
    return main("lenet5", build_model, [*options(**changes), "--output", str(output)])
