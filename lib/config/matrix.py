"""Expand the test matrix, ticked boxes or a YAML file, to its list of runs. No import of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..storage.project import ROOT
from . import variants, yaml_matrix
from .assignment import changed
from .errors import ConfigError
from .kconfig import PRESETS, load
from .resolve import PAIRS, legal, run_config
from .run_config import RunConfig
from .symbols import Symbols

_AXES = {"model": "MODEL", "optimizer": "OPTIMIZER", "pruning method": "PRUNING"}


def expand(
    symbols: Symbols, sparsities: Sequence[float] | None = None, seeds: Sequence[int] | None = None
) -> list[RunConfig]:
    """Return every legal run of the ticked boxes in menu order, each followed by its variants.

    `sparsities` (0 to 1) and `seeds` replace those of the symbols. An unpruned run appears once per seed. All runs of
    a seed come before those of the next, so that a study that is cut short is a whole one with fewer seeds. Raises
    ConfigError where there is no run, or a value is not allowed.
    """
    sparsities = _sparsities(symbols) if sparsities is None else sparsities
    seeds = _seeds(symbols) if seeds is None else seeds
    errors = _check_name(symbols) + _empty_axes(symbols, sparsities)
    combinations = _combinations(symbols, sparsities)
    runs: dict[str, RunConfig] = {}
    arms: dict[str, dict[str, str]] = {"": {}}
    try:
        arms |= variants.parse(symbols)
    except ConfigError as error:
        errors += error.problems
    for variant, settings in arms.items():
        concerned = [c for c in combinations if variants.concerns(symbols, settings, *c[:3])]
        where = f"VARIANTS: {variant}: " if variant else ""
        if not concerned and combinations:
            errors.append(f"{where}applies to no run: none of them reads all of {', '.join(settings)}")
        with changed(symbols, settings) as refused:
            errors += [where + problem.removeprefix("command line: ") for problem in refused]
            for combination in concerned:
                try:
                    run = run_config(symbols, *combination, max(seeds, default=0), len(seeds) > 1)
                    for seed in seeds:
                        of_seed = replace(run, seed=seed, variant=variant or None)
                        if runs.setdefault(of_seed.run_id, of_seed) != of_seed:
                            errors.append(f"{of_seed.run_id}: two runs would have this name, which rounds sparsities")
                except ConfigError as error:
                    errors += [where + problem for problem in error.problems]
    if errors:
        raise ConfigError(dict.fromkeys(errors))
    return sorted(runs.values(), key=lambda run: seeds.index(run.seed))


def load_matrix(
    root: Path = ROOT, config_file: Path | None = None, overrides: Mapping[str, str] | None = None
) -> tuple[Symbols, list[RunConfig]]:
    """Return symbols and runs of a .config, a defconfig or a YAML matrix, with the overrides of a command line.

    Without a file: the tree's .config, or the preset `quickstart` where there is none yet.
    """
    path = default_config(root) if config_file is None else config_file
    if path.suffix in (".yaml", ".yml"):
        return from_yaml(path, overrides, root)
    symbols = load(root, path, overrides)
    return symbols, expand(symbols)


def default_config(root: Path = ROOT) -> Path:
    """Return the file that `make` reads: .config, or the quickstart preset where there is none."""
    config = root / ".config"
    return config if config.exists() or config.is_symlink() else root / PRESETS / "quickstart"


def from_yaml(
    path: Path, overrides: Mapping[str, str] | None = None, root: Path = ROOT
) -> tuple[Symbols, list[RunConfig]]:
    """Return symbols and runs of a YAML matrix. Overrides of a command line rank above those of the file."""
    symbols, sparsities, seeds = yaml_matrix.read(path, overrides or {}, root)
    return symbols, expand(symbols, sparsities, seeds)


def _combinations(symbols: Symbols, sparsities: Sequence[float]) -> list[tuple[str, str, str, float]]:
    return [
        (model, optimizer, method, sparsity)
        for model in symbols.ticked("MODEL")
        for optimizer in symbols.ticked("OPTIMIZER")
        for method in symbols.ticked("PRUNING")
        if legal(optimizer, method)
        for sparsity in ([0.0] if method == "none" else sparsities)
    ]


def _sparsities(symbols: Symbols) -> list[float]:
    target = symbols.value("TARGET_SPARSITY")
    return [int(box) / 100 for box in symbols.ticked("SPARSITY")] if target is None else [float(target)]


def _seeds(symbols: Symbols) -> list[int]:
    first, count = int(symbols.text("SEED")), int(symbols.text("SEEDS"))
    return list(range(first, first + count))


def _check_name(symbols: Symbols) -> list[str]:
    name = symbols.text("PRESET")
    if "/" in name or name.startswith((".", "-")):
        return [f"PRESET={name}: no name of a folder, allowed anything without / that starts with neither . nor -"]
    return []


def _empty_axes(symbols: Symbols, sparsities: Sequence[float]) -> list[str]:
    """Return what is missing for a single run, or for the pruned ones that the boxes promise."""
    methods, optimizers = symbols.ticked("PRUNING"), symbols.ticked("OPTIMIZER")
    missing = [f"no {what} is ticked" for what, prefix in _AXES.items() if not symbols.ticked(prefix)]
    if not sparsities and any(method != "none" for method in methods):
        missing.append("no sparsity is ticked")
    if optimizers and methods and not any(legal(o, m) for o in optimizers for m in methods):
        missing.append(f"{', '.join(methods)} with {', '.join(optimizers)} gives no run: {PAIRS}")
    return missing
