"""Reading YAML that may hold anything. No import of torch."""

from __future__ import annotations

from typing import Any

import yaml

_RAISED = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
MOST_BRACKETS = 10_000  # libyaml goes down with the stack at some tens of thousands


def parse_yaml(text: str | bytes, loader: type = yaml.SafeLoader) -> Any:
    """What a YAML text holds. Raises ValueError with one line for whatever cannot be read.

    PyYAML raises more than its own YAMLError: `!!int` gives an IndexError, a thousand brackets a RecursionError.
    """
    brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    if sum(map(text.count, brackets)) > MOST_BRACKETS:  # type: ignore[arg-type]
        raise ValueError("too many brackets")
    try:
        return yaml.load(text, Loader=loader)
    except _RAISED as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
