"""Parse variants: the same runs with a few settings changed, so that one matrix compares more than its axes.

`name: SYMBOL=value SYMBOL=value; name: ...` is what the symbol VARIANTS holds, or `none`. No import of torch.
"""

from __future__ import annotations

import re

from .errors import ConfigError
from .resolve import symbol_of
from .run_config import AXIS_FIELDS, FIELD_TYPES
from .schema import nearest
from .symbols import Symbols, field_symbols

_NAME = re.compile(r"(?!seed\d)[A-Za-z][A-Za-z0-9.+-]*")  # a part of a run id, which are joined by underscores


def parse(symbols: Symbols) -> dict[str, dict[str, str]]:
    """Return name and settings (as typed) of every variant. Raises ConfigError; values are not checked here.

    A symbol may be named in short, as on make's command line.
    """
    found: dict[str, dict[str, str]] = {}
    errors = []
    text = symbols.text("VARIANTS")
    if text.strip() == "none":
        return {}
    of_runs = _settings_of_runs(symbols) if text else set()
    for part in text.split(";"):
        if not part.strip():
            continue
        name, colon, words = (text.strip() for text in part.partition(":"))
        if not colon or not _NAME.fullmatch(name):
            errors.append(f"{name or part}: expected `name: SYMBOL=value ...`, name of letters, digits, '.', '+', '-'")
            continue
        if name in found:
            errors.append(f"{name}: stands there twice")
        pairs = [word.partition("=") for word in words.split()]
        settings = {symbol: value for symbol, _, value in pairs}
        errors += [f"{name}: {symbol}: expected {symbol}=value" for symbol, equals, _ in pairs if not equals]
        if len(settings) < len(pairs):
            errors.append(f"{name}: names a symbol twice")
        if not settings:
            errors.append(f"{name}: changes nothing")
        errors += [
            f"{name}: {symbol}: no setting of a run{nearest(symbol, symbols.names())}"
            for symbol in settings
            if not set(symbols.named(symbol)) & of_runs
        ]
        found[name] = settings
    if errors:
        raise ConfigError(f"VARIANTS: {problem}" for problem in errors)
    return found


def concerns(symbols: Symbols, settings: dict[str, str], model: str, optimizer: str, method: str) -> bool:
    """Return whether a run of these axes reads every symbol of `settings`."""
    fields = [field for field in (*FIELD_TYPES, *symbols.own_settings(model)) if field not in AXIS_FIELDS]
    read = {symbol_of(symbols, model, optimizer, method, field) for field in fields}
    return all(read & set(symbols.named(name)) for name in settings)


def _settings_of_runs(symbols: Symbols) -> set[str]:
    return {name for name, (field, _) in field_symbols(symbols).items() if field not in AXIS_FIELDS}
