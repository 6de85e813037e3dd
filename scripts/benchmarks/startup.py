"""How long the tools and a run need to start, as whole processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from scripts.benchmarks.interleaved import Row, time_interleaved

ROOT = Path(__file__).resolve().parents[2]


def measure(device: torch.device, rounds: int) -> list[Row]:
    few = max(rounds // 4, 2)
    script = [sys.executable, str(ROOT / "scripts/kconfig.py")]
    tools = {
        "make dry-run": [*script, "dry-run"],
        "make list-defconfigs": [*script, "list-defconfigs"],
        "make help": ["make", "-C", str(ROOT), "help"],
    }
    with tempfile.TemporaryDirectory() as folder:
        # one step of one epoch on a few images drawn by the program, without a monitor
        train = [sys.executable, str(ROOT / "lenet5/train.py"), "--dataset", "synthetic", "--train-images", "256"]
        train += ["--epochs", "1", "--monitor", "n", "--device", device.type, "--output"]
        runs = iter(range(1000))
        calls = {
            "import torch": _process([sys.executable, "-c", "import torch"]),
            "a run of one step, with its evaluation": lambda: _process([*train, f"{folder}/{next(runs)}"])(),
        }
        rows = time_interleaved("start of a run", calls, few)
    return time_interleaved("start of a tool", {name: _process(command) for name, command in tools.items()}, few) + rows


def _process(command: list[str]) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

    return run
