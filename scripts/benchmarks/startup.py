"""Time how long the tools and a run need to start, as whole processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch

from lib.storage.project import ROOT
from scripts.benchmarks.interleaved import Events, time_interleaved


def measure(device: torch.device, rounds: int) -> Events:
    few = max(rounds // 4, 2)
    script = [sys.executable, str(ROOT / "scripts/kconfig.py")]
    tools = {
        "make dry-run": [*script, "dry-run"],
        "make list-defconfigs": [*script, "list-defconfigs"],
        "make help": ["make", "-C", str(ROOT), "help"],
    }
    yield from time_interleaved("start of a tool", {name: _process(command) for name, command in tools.items()}, few)
    with tempfile.TemporaryDirectory() as folder:
        # one step of one epoch on a few images drawn by the program, without a monitor
        train = [sys.executable, str(ROOT / "lenet5/train.py"), "--dataset", "synthetic", "--train-images", "256"]
        train += ["--epochs", "1", "--monitor", "n", "--device", device.type, "--output"]
        runs = iter(range(1000))
        calls = {
            "import torch": _process([sys.executable, "-c", "import torch"]),
            "a run of one step, with its evaluation": lambda: _process([*train, f"{folder}/{next(runs)}"])(),
        }
        yield from time_interleaved("start of a run", calls, few)


def _process(command: list[str]) -> Callable[[], None]:
    def run() -> None:
        # in a session of its own: Ctrl-C is for the benchmark, which ends its child without a traceback
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)

    return run
