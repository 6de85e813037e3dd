"""Reading YAML that may hold anything. No import of torch."""

from __future__ import annotations

from typing import Any

import yaml


def parse_yaml(text: str | bytes, loader: type = yaml.SafeLoader) -> Any:
    """What a YAML text holds. Raises ValueError with one line for whatever cannot be read.

    PyYAML raises more than its own YAMLError: `!!int` gives an IndexError, a thousand brackets a RecursionError.
    """
    try:
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
