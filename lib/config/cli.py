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
from .symbols import Symbols

AXES = ("model", "optimizer", "pruning_method", "seed_in_name")  # not looked up as symbols
DEFAULT_SPARSITY = "0.7"  # of a run that prunes and does not say how much


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
    sparsity = options.pop("target_sparsity", "0.0" if method == "none" else DEFAULT_SPARSITY)
    share = 0.0
    try:
        share = float(str(symbols.spec("TARGET_SPARSITY").parse(sparsity)))
        if method == "none" and share:
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
    for axis, prefix in (("optimizer", "OPTIMIZER"), ("pruning_method", "PRUNING")):
        built.add_argument(flag(axis), metavar="NAME", help=f"one of {', '.join(symbols.axis(prefix))}")
    for field in (*FIELD_TYPES, *symbols.own_settings(model)):
        if field not in AXES and (names := symbols_of(symbols, model, field)):
            built.add_argument(flag(field), metavar=field.upper(), help=help_of(symbols, names))
    return built


def symbols_of(symbols: Symbols, model: str, field: str) -> list[str]:
    """Return every symbol that gives `field` its value in some run of the model."""
    pairs = [(o, p) for o in symbols.axis("OPTIMIZER") for p in symbols.axis("PRUNING") if legal(o, p)]
    found = [symbol_of(symbols, model, optimizer, method, field) for optimizer, method in pairs]
    return [name for name in dict.fromkeys(found) if name]


def help_of(symbols: Symbols, names: list[str]) -> str:
    """Prompt, allowed values, default and help text of a field's symbols; they differ in their defaults only."""
    spec = symbols.spec(names[0])
    values = {name: as_text(symbols.value(name)) or "none" for name in names}
    same = len(set(values.values())) == 1
    default = values[names[0]] if same else ", ".join(f"{name} {value}" for name, value in values.items())
    text = re.sub(r" ?Range: .*", "", " ".join(spec.help.split()))  # stands in spec.allowed already
    return f"{spec.prompt}: {spec.allowed}; default {default}. {text}".replace("%", "%%")
