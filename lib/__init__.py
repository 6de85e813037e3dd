"""AdamWPrune, an optimizer that prunes, and what belongs to it; installed as the package `adamwprune`.

In the repository the same folder also holds the harness that compares optimizers and pruning methods.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .optimizers import AdamWAdv, AdamWPrune, AdamWSpam
    from .pruning import CubicSchedule, MagnitudePruner, MovementPruner, prunable_parameters

__all__ = [
    "AdamWAdv",
    "AdamWPrune",
    "AdamWSpam",
    "CubicSchedule",
    "MagnitudePruner",
    "MovementPruner",
    "__version__",
    "prunable_parameters",
]

__version__ = "0.1.0"

_FOLDERS = {
    "AdamWAdv": "optimizers",
    "AdamWPrune": "optimizers",
    "AdamWSpam": "optimizers",
    "CubicSchedule": "pruning",
    "MagnitudePruner": "pruning",
    "MovementPruner": "pruning",
    "prunable_parameters": "pruning",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the menus and tables of the harness use this package without torch."""
    if name in _FOLDERS:
        return getattr(import_module(f".{_FOLDERS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
