"""Reading results folders: what the runs left behind, however little that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config.errors import CommandError
from ..monitor.recording import MAX_SAMPLES
from ..storage.files import read_json, read_json_lines
from ..storage.run_dir import ResultsDir, RunDir
from ..storage.safe_yaml import read_yaml
from .display_names import METHODS, OPTIMIZERS
from .records import Results, RunRecord, number

_RUN_ID = re.compile(
    r"(?P<model>[^_]+)_(?P<optimizer>[^_]+)_(?P<pruning_method>[^_]+)(_(?P<percent>\d+(\.\d+)?))?"
    r"(_(?P<variant>(?!seed\d)[^_]+))?(_seed(?P<seed>\d+))?$"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _order(run: RunRecord) -> tuple:
    def place(value: str, known: Sequence[str]) -> tuple[int, str]:
        return (known.index(value), "") if value in known else (len(known), value)

    optimizer, method = place(run.optimizer, OPTIMIZERS), place(run.method, METHODS)
    return run.model, optimizer, method, run.target_sparsity, run.variant, run.seed


def load_run(path: Path) -> RunRecord:
    """Return the run in folder `path`. A torn or missing file, or a link, leaves its part empty.

    The folder's name fills in for a missing config.
    """
    folder = RunDir(path)
    known = _config_in_name(path.name)
    metrics, torn = ([], 0) if folder.metrics.is_symlink() else read_json_lines(folder.metrics)
    samples, torn_samples = ([], 0) if folder.gpu.is_symlink() else read_json_lines(folder.gpu, MAX_SAMPLES)
    # an epoch that was repeated after a kill stands twice: the later one is the one that went on
    latest = {int(number(row.get("epoch")) or 0): row for row in metrics}
    return RunRecord(
        name=path.name,
        config=_with_safe_names(known | _own(folder.config, read_yaml), known),
        status=_own(folder.status, read_json),
        summary=_own(folder.summary, read_json),
        metrics=[latest[epoch] for epoch in sorted(latest)],
        samples=samples,
        importance=[row["importance"] for row in metrics if isinstance(row.get("importance"), dict)],
        path=path,
        dropped=torn + torn_samples,
    )


def _linked_run(path: Path) -> RunRecord:
    """Return the run of a folder that is a link below a results folder: its name alone, since no link is followed."""
    reason = "the folder is a symbolic link, which is not followed"
    return RunRecord(path.name, _config_in_name(path.name), status={"state": "not read", "reason": reason})


def _config_in_name(name: str) -> dict[str, Any]:
    """Return the settings that the name of a run's folder holds."""
    named = _RUN_ID.match(name)
    known: dict[str, Any] = {k: v for k, v in named.groupdict().items() if v is not None} if named else {}
    percent = float(known.pop("percent", 0))
    return known | {"target_sparsity": percent / 100, "seed": int(known.get("seed", 0))}


def _own(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What a file of the folder holds; nothing for a link, which would put another file of the reader's into a page."""
    return {} if path.is_symlink() else read(path)


def _with_safe_names(config: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """`config` with names that can become parts of paths; others give way to those of the folder, or to `unnamed`."""
    for field in ("model", "optimizer", "pruning_method", "variant"):
        given = [value for value in (config.get(field), named.get(field), "unnamed") if value not in (None, "")]
        if field in config and given[0] != "unnamed":
            config[field] = next(value for value in given if _NAME.fullmatch(str(value)))
    return config


def is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.yaml", "status.json", "metrics.jsonl"))


def load(path: Path) -> Results:
    """Return the results folder `path` (or a single run's folder)."""
    if is_run(path):
        runs = [load_run(path)]
    else:
        folders = [entry for entry in path.iterdir() if is_run(entry)]
        runs = [_linked_run(entry) if entry.is_symlink() else load_run(entry) for entry in folders]
    matrix = ResultsDir(path).read_matrix()
    planned, overrides = matrix.get("runs"), matrix.get("overrides")
    return Results(
        name=path.resolve().name,
        runs=tuple(sorted(runs, key=_order)),
        environment=_own(path / "environment.json", read_json),
        path=path,
        planned=tuple(map(str, planned)) if isinstance(planned, list | dict) else (),
        overrides=overrides if isinstance(overrides, dict) else {},
        chosen_by=str(matrix.get("chosen_by") or ""),
    )


def newest(root: Path) -> Path | None:
    """Return the folder that `results/latest` points to, else the one last started; None where there is none."""
    if (root / "latest").is_dir():
        return root / "latest"
    folders = ResultsDir.by_age(root)
    return folders[-1].path if folders else None


def find(name: str | None, root: Path) -> Path:
    """Return the folder a command was given: a path, a name under `root`, or nothing for the newest.

    Raises CommandError with a sentence for the user.
    """
    if name is None:
        folder = newest(root)
        if folder is None:
            raise CommandError(f"no results in {root}/ yet: run `make` first")
        return folder
    for candidate in (Path(name), root / name):
        if candidate.is_dir():
            return candidate
    places = dict.fromkeys((str(name), str(root / name)))  # one where the name is absolute
    raise CommandError(f"no results folder {', nor '.join(places)}")
