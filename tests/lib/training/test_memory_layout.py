"""Models that crash a CPU in channels_last are not trained in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.storage.project import ROOT
from lib.training.memory_layout import crashes_in_channels_last
from resnet18.model import ResNet18

CPU = torch.device("cpu")


def test_strided_1x1_convolutions_of_few_channels_crash_on_a_cpu_alone() -> None:
    assert crashes_in_channels_last(ResNet18(width=8), CPU)
    assert not crashes_in_channels_last(ResNet18(width=8), torch.device("cuda"))
    assert not crashes_in_channels_last(ResNet18(width=16), CPU)
    assert not crashes_in_channels_last(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, stride=2)), CPU)


def train(width: int, output: Path) -> str:
    """Train as issue 6035 of oneDNN was met; return what the run printed."""
    words = ["--optimizer", "adamw", "--dataset", "synthetic", "--train-images", "9", "--batch-size", "3"]
    words += ["--width", str(width), "--epochs", "1", "--threads", "2", "--monitor", "n", "--output", str(output)]
    command = [sys.executable, "-m", "resnet18.train", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr  # -6 or -11 before
    return done.stdout


@pytest.mark.parametrize("width", [4, 8, 12])
def test_a_narrow_resnet_trains_on_a_cpu_and_says_in_its_first_line_that_the_layout_was_changed(
    width: int, tmp_path: Path
) -> None:
    first = train(width, tmp_path).splitlines()[0]
    assert first.endswith("; not in channels_last, which crashes this model on CPUs")


@pytest.mark.soak
def test_a_narrow_resnet_trains_on_a_cpu_twenty_times(tmp_path: Path) -> None:
    for number in range(20):
        train(8, tmp_path / str(number))
