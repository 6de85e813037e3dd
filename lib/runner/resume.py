"""Which results folder a start belongs to, and which of its runs are still to be trained."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..config.errors import ConfigError
from ..config.run_config import RunConfig, not_resumable
from ..storage.files import read_json
from ..storage.received import read_regular
from ..storage.run_dir import ResultsDir, RunDir

FINISHED = ("done", "diverged")  # training a diverged run again would end the same way


def saved_configs(folder: ResultsDir) -> dict[str, RunConfig | None]:
    """Return the runs as configured when they were planned; None where a config.yaml is missing or unreadable."""
    saved: dict[str, RunConfig | None] = {}
    for run in folder.runs():
        saved[run.name] = None
        with contextlib.suppress(OSError, ValueError, ConfigError):
            saved[run.name] = RunConfig.from_yaml(read_regular(run.config).decode())
    return saved


def changes(folder: ResultsDir, configs: list[RunConfig]) -> list[str]:
    """Return what a configuration would change in a results folder, one sentence per key; more epochs are no change.

    A run whose config.yaml cannot be read counts as unchanged: it is written anew.
    """
    saved, wanted = saved_configs(folder), {config.run_id: config for config in configs}
    messages = [f"run {name} is not part of it" for name in wanted if name not in saved]
    messages += [f"run {name} is missing" for name in saved if name not in wanted]
    keys: dict[str, list[str]] = {}
    for name, config in wanted.items():
        old = saved.get(name)
        if old is None:
            continue
        before, after = old.values(), config.values()
        for key in not_resumable(old, config):
            keys.setdefault(f"{key}: {before.get(key)} there, {after.get(key)} here", []).append(name)
    for text, names in keys.items():
        where = "" if len(names) == len(wanted) else f" ({names[0]}" + (", ..." if names[1:] else "") + ")"
        messages.append(text + where)
    return messages


def extends_epochs(folder: ResultsDir, configs: list[RunConfig]) -> bool:
    """Return whether the configuration asks for more epochs than the folder was planned with."""
    saved = saved_configs(folder)
    return any((old := saved.get(c.run_id)) is not None and c.epochs > old.epochs for c in configs)


def is_finished(run: RunDir, config: RunConfig) -> bool:
    """Return whether a run needs no more training: diverged, or done with all epochs and a whole summary."""
    state = run.read_status().get("state")
    if state == "done":
        epochs = read_json(run.summary).get("epochs")
        return isinstance(epochs, int) and epochs >= config.epochs
    return state in FINISHED


def unfinished(folder: ResultsDir, configs: list[RunConfig]) -> list[RunConfig]:
    """Return the runs still to be trained, in the order of the matrix."""
    return [config for config in configs if not is_finished(folder.run(config.run_id), config)]


def recorded_overrides(folder: ResultsDir) -> dict[str, str]:
    """Return the NAME=value of the command line that a folder was started with."""
    overrides = folder.read_matrix().get("overrides")
    return {str(name): str(value) for name, value in overrides.items()} if isinstance(overrides, dict) else {}


def recorded_source(folder: ResultsDir) -> Path:
    """Return the .config or YAML matrix that a folder was started from."""
    return Path(str(folder.read_matrix().get("source")))


def source_to_resume(folder: ResultsDir) -> Path:
    """Return the file that says which runs a folder has: the YAML matrix it came from, else its own .config."""
    path = recorded_source(folder)
    return path if path.suffix in (".yaml", ".yml") else folder.config
