"""The shared library of the harness; installed as the package `adamwprune`.

`from adamwprune import AdamWPrune` is all that somebody else's training loop needs.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the optimizer when it is asked for: menus and tables use this package without torch."""
    if name == "AdamWPrune":
        from .optimizers.adamwprune import AdamWPrune

        return AdamWPrune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
