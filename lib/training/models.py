"""Where a model lives: the folder `<name>/` of the project, whose train.py trains it and has `build_model`.

No import of torch: the runner starts models that it does not load.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..storage.project import ROOT

if TYPE_CHECKING:
    from torch import nn

    from ..config.run_config import RunConfig
    from ..data.dataset import Data

    BuildModel = Callable[[RunConfig, Data], nn.Module]


def train_script(model: str, root: Path = ROOT) -> Path:
    """Return the script that trains a model: `<model>/train.py`."""
    return root / model / "train.py"


def train_module(model: str) -> str:
    """Return the name under which `python -m` trains a model from the project's root."""
    return f"{model}.train"


def load_build_model(model: str) -> BuildModel:
    """Import and return `build_model(config, data)` of a model. Imports torch only once it is called."""
    return cast("BuildModel", importlib.import_module(train_module(model)).build_model)
