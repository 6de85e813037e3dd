"""What all tests share: few threads, no variables of an outer make, run configurations, copies of the tree."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lib.config import kconfig, matrix
from lib.config.run_config import RunConfig

ROOT = Path(__file__).resolve().parents[1]

# Before torch is imported: small nets on few cores are fastest with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# `make check` runs the tests, which run make: its own flags and overrides are not theirs.
for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)

# Under nohup children would ignore a lost terminal as well, and in the background of a script Ctrl-C too; a handler,
# unlike being ignored, is not handed down.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("project", deadline=None, max_examples=50)
settings.load_profile("project")


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """main() called in this process leaves its handlers behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """A run in this process has denormal numbers flushed to zero; the next test may need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def make_config() -> Callable[..., RunConfig]:
    """A run's configuration with Kconfig's defaults: `make_config("lenet5", "sgd", "magnitude", epochs=1)`."""

    def build(
        model: str = "lenet5",
        optimizer: str = "adamwprune",
        pruning_method: str = "none",
        target_sparsity: float = 0.7,
        **fields: Any,
    ) -> RunConfig:
        axes = {"MODEL": model, "OPTIMIZER": optimizer, "PRUNING_METHOD": pruning_method}
        if pruning_method != "none":
            axes["TARGET_SPARSITY"] = str(target_sparsity)
        (run,) = matrix.expand(kconfig.load(ROOT, None, axes))
        return replace(run, **fields)

    return build


@pytest.fixture
def own_tree(tmp_path: Path) -> Path:
    """A copy of the program in a folder whose name is awkward, to be written into."""
    copy = tmp_path / "Bäume [2] mit 'Leerzeichen'"
    for name in ("Kconfig", "Makefile", "requirements.txt", "requirements-dev.txt", "requirements-tensorboard.txt"):
        copy.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy)
    for name in ("defconfigs", "lib", "lenet5", "resnet18", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy
