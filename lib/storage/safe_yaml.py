"""Read YAML that may hold anything. No import of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .received import read_regular

_RAISED = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
MOST_BRACKETS = 10_000  # libyaml goes down with the stack at some tens of thousands
MOST_BYTES = 1 << 22  # of a file; ten thousand runs take half a million

_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it


def parse_yaml(text: str | bytes, loader: type = yaml.SafeLoader) -> Any:
    """Return what a YAML text holds. Raises ValueError with one line for whatever cannot be read.

    PyYAML raises more than its own YAMLError: `!!int` gives an IndexError, a thousand brackets a RecursionError.
    Aliases are refused: a few hundred bytes of them can stand for a list of more items than fit into memory.
    """
    brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    if sum(map(text.count, brackets)) > MOST_BRACKETS:  # type: ignore[arg-type]
        raise ValueError("too many brackets")
    try:
        if (b"*" if isinstance(text, bytes) else "*") in text:  # type: ignore[operator]
            for event in yaml.parse(text, Loader=_FAST):
                if isinstance(event, yaml.AliasEvent):
                    raise ValueError(f"aliases are not read: write out what *{event.anchor} stands for")
        return yaml.load(text, Loader=loader)
    except _RAISED as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; {} where the file is absent, damaged or holds something else."""
    try:
        content = parse_yaml(read_regular(path, MOST_BYTES).decode(errors="replace"), _FAST)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
