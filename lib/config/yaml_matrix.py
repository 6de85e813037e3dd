"""Read a test matrix that is written in YAML. No import of torch.

models: [lenet5, resnet18]
optimizers: [adamw, adamwprune]
pruning_methods: [none, magnitude, state]
sparsity_levels: [0.5, 0.9]        # shares of the prunable weights; not needed where nothing prunes
seeds: 3                           # how many, or a list of seeds
overrides: {EPOCHS: 3, DATA_DIR: /data}

A results folder's own matrix.yaml is one too: together with the `config` beside it, it gives the runs of that folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..storage.received import read_regular
from ..storage.safe_yaml import MOST_BYTES, parse_yaml
from .assignment import override
from .errors import ConfigError
from .kconfig import defaults, load
from .schema import as_text, nearest
from .symbols import Symbols

_AXIS_KEYS = {"models": "MODEL", "optimizers": "OPTIMIZER", "pruning_methods": "PRUNING_METHOD"}
_KEYS = (*_AXIS_KEYS, "sparsity_levels", "seeds", "overrides")
_RECORDED = ("runs", "chosen_by", "source")  # what a results folder's matrix.yaml holds besides


def read(path: Path, overrides: Mapping[str, str], root: Path) -> tuple[Symbols, list[float] | None, list[int] | None]:
    """Return the symbols, and the sparsities and seeds where those of the symbols do not hold (None: they do).

    Raises ConfigError with every problem of the file and of the overrides, which rank above the file.
    """
    content = _content(path)
    symbols = load(root, path.parent / "config") if "runs" in content else defaults(root)
    texts = {name: ",".join(map(as_text, _listed(content[key]))) for key, name in _AXIS_KEYS.items()}
    texts |= {str(name): as_text(value) for name, value in (content.get("overrides") or {}).items()}
    if "runs" not in content:
        texts.setdefault("PRESET", path.stem)
    levels = None if "TARGET_SPARSITY" in overrides else content.get("sparsity_levels")
    seeds = None if {"SEED", "SEEDS"} & overrides.keys() else content.get("seeds")
    if isinstance(seeds, int):
        texts["SEEDS"] = str(seeds)
        seeds = None
    errors = override(symbols, texts, str(path)) + override(symbols, overrides)
    sparsities = _numbers(symbols, path, "sparsity_levels", "TARGET_SPARSITY", levels, errors)
    chosen = _numbers(symbols, path, "seeds", "SEED", seeds, errors)
    if errors:
        raise ConfigError(errors)
    if sparsities is None and "TARGET_SPARSITY" not in overrides:
        sparsities = []
    return symbols, sparsities, chosen


class _Loader(yaml.SafeLoader):
    """Refuse two equal keys, of which PyYAML's safe loader takes the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands here twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _content(path: Path) -> dict[str, Any]:
    """Return the file's content with its keys and the kinds of their values checked."""
    try:
        content = parse_yaml(read_regular(path, MOST_BYTES), _Loader)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: not YAML: {error}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: not a matrix; expected {', '.join(_KEYS)}"])
    known = (*_KEYS, *_RECORDED) if "runs" in content else _KEYS
    errors = [f"{path}: {key}: no such key{nearest(str(key), known)}" for key in content if key not in known]
    errors += [f"{path}: {key}: missing" for key in _AXIS_KEYS if content.get(key) is None]
    overrides = content.get("overrides") or {}
    if not isinstance(overrides, dict):
        errors.append(f"{path}: overrides: expected NAME: value")
    elif nested := [name for name, value in overrides.items() if isinstance(value, dict | list | set | tuple)]:
        errors += [f"{path}: overrides: {name}: expected one value" for name in nested]
    errors += [
        f"{path}: {key}: expected a value or a list of values"
        for key in (*_AXIS_KEYS, "sparsity_levels")
        if any(isinstance(value, dict | list | set | tuple) for value in _listed(content.get(key)))
    ]
    if isinstance(content.get("seeds"), bool | float | str | dict) or content.get("seeds") == []:
        errors.append(f"{path}: seeds={content['seeds']}: expected how many, or a list of whole numbers")
    if errors:
        raise ConfigError(errors)
    return content


def _numbers(symbols: Symbols, path: Path, key: str, name: str, values: Any, errors: list[str]) -> list[Any] | None:
    """Return the list under `key`, each value checked as one of the symbol `name`. Problems go into `errors`."""
    if values is None:
        return None
    numbers: list[Any] = []
    for value in _listed(values):
        text = as_text(value)
        try:
            number = symbols.spec(name).parse(text or "nothing")
        except ValueError as error:
            errors.append(f"{path}: {key}: {text}: {error}, allowed {symbols.spec(name).allowed}")
            continue
        if number in numbers:
            errors.append(f"{path}: {key}: {text} stands there twice")
        numbers.append(number)
    return numbers


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
