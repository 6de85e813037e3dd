"""Very small runs, for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from lenet5.model import LeNet5
from lib.config import kconfig
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.config.symbols import Symbols
from lib.data import readers
from lib.data.dataset import Data
from lib.storage.files import read_json_lines
from lib.storage.run_dir import RunDir
from lib.training.trainer import Stop, train

TIMES = ("time", "epoch_seconds", "evaluation_seconds", "images_per_second")


@cache
def symbols() -> Symbols:
    return kconfig.load()


def tiny(optimizer: str = "adamw", method: str = "none", sparsity: float = 0.7, **changes: Any) -> RunConfig:
    """LeNet-5 on 256 digits: four steps an epoch, three epochs."""
    config = run_config(symbols(), "lenet5", optimizer, method, sparsity, seed=0)
    small = {"dataset": "mnist5k", "train_images": 256, "batch_size": 64, "epochs": 3, "threads": 1, "monitor": False}
    if method != "none":
        small |= {"pruning_start": 0.2, "pruning_end": 0.8, "pruning_interval": 2}
    return config.changed(**(small | changes))


read = cache(readers.read)


def lenet5(config: RunConfig, data: Data) -> nn.Module:
    return LeNet5(data.channels, data.classes)


def folder(path: Path) -> RunDir:
    path.mkdir(parents=True, exist_ok=True)
    return RunDir(path)


def run(
    config: RunConfig, path: Path, stop: Stop | None = None, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train in `path`, returning the summary. Datasets are read once per process."""
    with mock.patch.object(readers, "read", read):
        return train(config, folder(path), lenet5, stop, log)


def metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run without what the clock says."""
    records, dropped = read_json_lines(RunDir(path).metrics)
    assert dropped == 0
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def weights(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(RunDir(path).weights.read_bytes())


def assert_same_outcome(a: Path, b: Path) -> None:
    """Same metrics and, bit for bit, same weights."""
    assert metrics(a) == metrics(b)
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


class StopAfter:
    """Asks the run to stop after so many steps."""

    def __init__(self, steps: int, number: int = 15):
        self.left, self.number = steps, number

    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0
