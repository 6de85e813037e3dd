"""Parse the command line of train.py: every option is a field of a run; help, default and range are Kconfig's.

No import of torch.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from . import kconfig
from .assignment import changed
from .errors import ConfigError
from .resolve import PAIRS, legal, problems, run_config, symbol_of
from .run_config import FIELD_TYPES, RunConfig
from .schema import Value, as_text, nearest
from .symbols import Symbols, field_symbols

AXES = ("model", "optimizer", "pruning_method", "seed_in_name")  # not looked up as symbols
DEFAULT_SPARSITY = "0.7"  # of a run that prunes and does not say how much
DEFAULTS = {"target_sparsity": f"{DEFAULT_SPARSITY} with a pruning method, else 0"}  # not those of the menus


def parse(model: str, description: str, argv: list[str]) -> tuple[RunConfig, Path | None]:
    """Return the run and the output folder (None: the default) that a command line asks for.

    Raises ConfigError with everything that is wrong; `--help` prints and exits.
    """
    symbols = kconfig.load()
    if {"-h", "--help"} & set(argv):
        parser(symbols, model, description).print_help()
        raise SystemExit(0)
    fields = [*FIELD_TYPES, *symbols.own_settings(model)]
    known, unknown = parser(symbols, model, description).parse_known_args(argv)
    options = {name: text for name, text in vars(known).items() if text is not None}
    if unknown:
        flags = [flag(field) for field in fields]
        errors = [word for word in unknown if word.startswith("-")] or unknown  # not the values of wrong options
        raise ConfigError(f"{word}: no such option{nearest(word, flags)}" for word in errors)
    if empty := [name for name, text in options.items() if not text.strip()]:
        raise ConfigError(f"{flag(name)}: empty value" for name in empty)
    output = options.pop("output", None)
    if "data_dir" in options:  # what is typed counts from here, what is configured from the project's root
        options["data_dir"] = str(Path(options["data_dir"]).expanduser().absolute())
    if "config" in options:
        config = from_file(symbols, model, Path(options.pop("config")))
    else:
        config = from_defaults(symbols, model, options)
    return with_values(symbols, config, options), Path(output) if output else None


def from_file(symbols: Symbols, model: str, path: Path) -> RunConfig:
    """Return the run in a config.yaml, checked as if it had been typed."""
    try:
        config = RunConfig.from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {problem}" for problem in error.problems) from None
    errors = problems(symbols, config)
    if config.model != model:
        errors.append(f"model={config.model}: this is the train.py of {model}")
    if errors:
        raise ConfigError(f"{path}: {problem}" for problem in errors)
    return config


def from_defaults(symbols: Symbols, model: str, options: dict[str, str]) -> RunConfig:
    """Return the run of the axes in `options`, which are taken out of it, with every other field at its default."""
    optimizer = options.pop("optimizer", "adamw")
    method = options.pop("pruning_method", "state" if optimizer == "adamwprune" else "none")
    errors = [
        f"{name}={value}: unknown, allowed {', '.join(symbols.axis(prefix))}"
        for name, prefix, value in (("optimizer", "OPTIMIZER", optimizer), ("pruning_method", "PRUNING", method))
        if value not in symbols.axis(prefix)
    ]
    if not errors and not legal(optimizer, method):
        errors = [f"pruning_method={method}: {PAIRS}"]
    sparsity = options.pop("target_sparsity", "0" if method == "none" else DEFAULT_SPARSITY)
    share = 0.0
    if method != "none" or sparsity.strip("0.") != "":  # the dense run may say that it is one
        try:
            share = float(str(symbols.spec("TARGET_SPARSITY").parse(sparsity)))
            if method == "none":
                errors.append(f"target_sparsity={sparsity}: needs a pruning method")
        except ValueError as error:
            errors.append(f"target_sparsity={sparsity}: {error}, allowed {symbols.spec('TARGET_SPARSITY').allowed}")
    if errors:
        raise ConfigError(errors)
    # regrowth follows from the mode by default, and so from one that is typed; with_values tells where that is wrong
    with changed(symbols, {"ADAMWPRUNE_MODE": options["mode"]} if "mode" in options else {}):
        return run_config(symbols, model, optimizer, method, share, seed=0)


def with_values(symbols: Symbols, config: RunConfig, texts: Mapping[str, str]) -> RunConfig:
    """Return `config` with some fields replaced by texts as typed (`{"epochs": "3"}`), or raise ConfigError."""
    fields = [*FIELD_TYPES, *symbols.own_settings(config.model)]
    values: dict[str, Value] = {}
    errors: list[str] = []
    for field, text in texts.items():
        name = symbol_of(symbols, config.model, config.optimizer, config.pruning_method, field)
        if field not in fields or field in ("model", "optimizer", "pruning_method", "seed_in_name", "variant"):
            errors.append(f"{field}={text}: cannot be changed{nearest(field, fields)}")
        elif name is None:
            errors.append(f"{field}={text}: does not apply to {config.optimizer} with {config.pruning_method}")
        else:
            try:
                values[field] = symbols.spec(name).parse(text)
            except ValueError as error:
                errors.append(f"{field}={text}: {error}, allowed {symbols.spec(name).allowed}")
    if errors:
        raise ConfigError(errors)
    new = config.changed(**values)
    if found := problems(symbols, new):
        raise ConfigError(found)
    return new


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def parser(symbols: Symbols, model: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with one option for each field that some run of this model has."""
    built = argparse.ArgumentParser(
        prog="train.py",
        usage=argparse.SUPPRESS,  # the description holds it
        description=description.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    built.add_argument("--config", metavar="FILE.yaml", help="a run's config.yaml; other options override it")
    built.add_argument("--output", metavar="DIR", help="folder of the run (default results/<run>-<time>/<run>)")
    for axis, prefix, default in (
        ("optimizer", "OPTIMIZER", "adamw"),
        ("pruning_method", "PRUNING", "state with adamwprune, else none"),
    ):
        members = ", ".join(symbols.axis(prefix))
        built.add_argument(flag(axis), metavar="NAME", help=f"one of {members}; default {default}")
    for field in (*FIELD_TYPES, *symbols.own_settings(model)):
        if field not in AXES and (names := symbols_of(symbols, model, field)):
            built.add_argument(flag(field), metavar=field.upper(), help=help_of(symbols, field, names))
    return built


def symbols_of(symbols: Symbols, model: str, field: str) -> list[str]:
    """Return every symbol that gives `field` its value in some run of the model."""
    pairs = [(o, p) for o in symbols.axis("OPTIMIZER") for p in symbols.axis("PRUNING") if legal(o, p)]
    found = [symbol_of(symbols, model, optimizer, method, field) for optimizer, method in pairs]
    return [name for name in dict.fromkeys(found) if name]


def help_of(symbols: Symbols, field: str, names: list[str]) -> str:
    """Return prompt, allowed values, default and help text of a field, by optimizer or method where they differ."""
    owners = {name: _owner(symbols, name) for name in names}
    prompts = {symbols.spec(name).prompt for name in names}
    prompt = prompts.pop() if len(prompts) == 1 else field.replace("_", " ")
    default = DEFAULTS.get(field) or _by_owner({owners[n]: as_text(symbols.value(n)) or "none" for n in names}, ", ")
    text = _by_owner({owners[name]: _sentences(symbols.spec(name).help) for name in names}, " ")
    return f"{prompt} ({symbols.spec(names[0]).allowed}; default {default}). {text}".replace("%", "%%")


def _owner(symbols: Symbols, name: str) -> str:
    """Return the optimizer or method that a symbol belongs to; "others" where it belongs to none."""
    _, prefixes = field_symbols(symbols)[name]
    known = [word.lower() for word in prefixes if word.lower() not in symbols.axis("MODEL")]
    return known[0] if known else "others"


def _by_owner(texts: dict[str, str], separator: str) -> str:
    """Join texts, each behind those it belongs to; one that belongs to all stands alone."""
    owners: dict[str, list[str]] = {}
    for owner, text in texts.items():
        owners.setdefault(text, []).append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return separator.join(f"{', '.join(names)}: {text}" for text, names in owners.items() if text)


def _sentences(text: str) -> str:
    """Return a help text in one line, without its range, which stands in `Spec.allowed`."""
    return re.sub(r" ?Range: .*", "", " ".join(text.split()))
