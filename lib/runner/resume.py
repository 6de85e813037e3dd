"""Which results folder a start belongs to, and which of its runs are still to be trained."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..config import kconfig
from ..config.errors import ConfigError
from ..config.run_config import RunConfig, not_resumable
from ..config.symbols import Symbols
from ..storage.files import read_json, write_atomic, write_json
from ..storage.locks import Locked, locked
from ..storage.project import ROOT
from ..storage.run_dir import ResultsDir, RunDir

SETTLED = ("done", "diverged")  # training a diverged run again would end the same way


def saved_configs(folder: ResultsDir) -> dict[str, RunConfig | None]:
    """The runs as configured when they were planned; None where a config.yaml is missing or unreadable."""
    found: dict[str, RunConfig | None] = {}
    for run in folder.runs():
        found[run.name] = None
        with contextlib.suppress(OSError, ValueError, ConfigError):
            found[run.name] = RunConfig.from_yaml(run.config.read_text())
    return found


def changes(folder: ResultsDir, configs: list[RunConfig]) -> list[str]:
    """What a configuration would change in a results folder, one sentence per key; more epochs are no change.

    A run whose config.yaml cannot be read counts as unchanged: it is written anew.
    """
    saved, wanted = saved_configs(folder), {config.run_id: config for config in configs}
    told = [f"run {name} is not part of it" for name in wanted if name not in saved]
    told += [f"run {name} is missing" for name in saved if name not in wanted]
    keys: dict[str, list[str]] = {}
    for name, config in wanted.items():
        old = saved.get(name)
        for key in not_resumable(old, config) if old else ():
            before, after = getattr(old, key), getattr(config, key)
            keys.setdefault(f"{key}: {before} there, {after} here", []).append(name)
    for text, names in keys.items():
        where = "" if len(names) == len(wanted) else f" ({names[0]}" + (", ..." if names[1:] else "") + ")"
        told.append(text + where)
    return told


def grows(folder: ResultsDir, configs: list[RunConfig]) -> bool:
    """Whether the configuration asks for more epochs than the folder was planned with."""
    saved = saved_configs(folder)
    return any((old := saved.get(c.run_id)) is not None and c.epochs > old.epochs for c in configs)


def settled(run: RunDir, config: RunConfig) -> bool:
    """Whether a run needs no more training: diverged, or done with all epochs and a whole summary."""
    state = run.read_status().get("state")
    if state == "done":
        epochs = read_json(run.summary).get("epochs")
        return isinstance(epochs, int) and epochs >= config.epochs
    return state in SETTLED


def unsettled(folder: ResultsDir, configs: list[RunConfig]) -> list[RunConfig]:
    """The runs still to be trained, in the order of the matrix."""
    return [config for config in configs if not settled(folder.run(config.run_id), config)]


def recorded_overrides(folder: ResultsDir) -> dict[str, str]:
    """The NAME=value of the command line this folder was started with."""
    overrides = folder.read_matrix().get("overrides")
    return {str(name): str(value) for name, value in overrides.items()} if isinstance(overrides, dict) else {}


def started_from(folder: ResultsDir) -> Path:
    """The .config or YAML matrix that this folder was started from."""
    return Path(str(folder.read_matrix().get("source")))


def source(folder: ResultsDir) -> Path:
    """The file that tells what runs this folder has: a YAML matrix where it lies, else the folder's own .config."""
    path = started_from(folder)
    return path if path.suffix in (".yaml", ".yml") else folder.config


def chosen_by(file: Path) -> str:
    """What chose the runs of a configuration: `defconfig-NAME` where the file is that preset's unchanged, `menuconfig`
    where it is not, or the name of a YAML matrix."""
    if file.suffix in (".yaml", ".yml"):
        return file.name
    symbols = kconfig.load(ROOT, file)
    preset = ROOT / "defconfigs" / symbols.text("PRESET")
    if preset.is_file() and _texts(kconfig.load(ROOT, preset)) == _texts(symbols):
        return f"defconfig-{preset.name}"
    return "menuconfig"


def _texts(symbols: Symbols) -> dict[str, str]:
    return {name: symbols.text(name) for name in symbols}


def write_plan(
    folder: ResultsDir,
    configs: list[RunConfig],
    source: Path,
    overrides: Mapping[str, str],
    environment: dict[str, Any],
) -> None:
    """Write what describes the matrix, and the configuration of each run.

    A new folder gets matrix.yaml last: with it the folder counts as a results folder. One that is gone on
    with gets it first: should we be killed, the next start knows the overrides that some runs already have.
    """
    record_machine(folder, environment)
    new = not folder.matrix.exists()
    if not new:
        write_matrix(folder, configs, source, overrides)
    for config in configs:
        write_run(folder.run(config.run_id), config)
    if new:
        write_matrix(folder, configs, source, overrides)
    folder.set_latest()


def record_machine(folder: ResultsDir, environment: dict[str, Any]) -> None:
    """Write environment.json. The machine of a later start is added to the first one: runs may come from both."""
    with locked(folder.path / ".lock", wait=None):
        if old := read_json(folder.environment):
            environment = {**old, "resumed": [*old.get("resumed", []), environment]}
        write_json(folder.environment, environment)


def write_matrix(folder: ResultsDir, configs: list[RunConfig], source: Path, overrides: Mapping[str, str]) -> None:
    """Write matrix.yaml: the runs in order, what chose them, what they span, and the overrides of the command line."""
    matrix = {
        "runs": [config.run_id for config in configs],
        "chosen_by": folder.read_matrix().get("chosen_by") or chosen_by(source),
        "source": str(source.absolute()),
        "overrides": dict(overrides),
        "models": list(dict.fromkeys(config.model for config in configs)),
        "optimizers": list(dict.fromkeys(config.optimizer for config in configs)),
        "pruning_methods": list(dict.fromkeys(config.pruning_method for config in configs)),
        "sparsity_levels": sorted({c.target_sparsity for c in configs if c.pruning_method != "none"}),
        "seeds": sorted({config.seed for config in configs}),
    }
    write_atomic(folder.matrix, yaml.safe_dump(matrix, sort_keys=False, allow_unicode=True))


def write_run(run: RunDir, config: RunConfig) -> None:
    """Write config.yaml and mark the run queued if it is to be trained. A run that is still being written
    (by a process that outlives its killed runner) is left alone."""
    with contextlib.suppress(Locked), run.lock():
        text = config.to_yaml()
        try:
            same = run.config.read_text() == text
        except (OSError, ValueError):
            same = False
        if not same:
            write_atomic(run.config, text)
        if not settled(run, config):
            run.write_status("queued", epochs=config.epochs)
