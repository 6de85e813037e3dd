#!/usr/bin/env python3
"""Train ResNet-18 with one optimizer and one pruning method.

usage: train.py [--config FILE.yaml] [--output DIR] [--NAME VALUE ...]

Every setting of the menus is an option. Running the same command on the same --output goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.training.main import main

if TYPE_CHECKING:
    from torch import nn

    from lib.config.run_config import RunConfig
    from lib.data.dataset import Data


def build_model(config: RunConfig, data: Data) -> nn.Module:
    """Return the model of a run, for the channels and classes of its data."""
    from resnet18.model import ResNet18

    return ResNet18(data.channels, data.classes, config.setting("width"))


if __name__ == "__main__":
    sys.exit(main("resnet18", build_model))
