"""Find, make and describe the results folder that the runs of a request are trained into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..config import kconfig
from ..config.run_config import RunConfig
from ..storage.files import read_json, write_atomic, write_json
from ..storage.locks import Locked, locked
from ..storage.project import ROOT
from ..storage.received import read_regular
from ..storage.run_dir import ResultsDir, RunDir
from . import environment
from .checks import Refused
from .request import Request
from .resume import changes, extends_epochs, is_finished, unfinished

FOLDER_TIMEOUT = 30.0  # seconds that other runners may take to make their folders


def find_folder(request: Request) -> ResultsDir | None:
    """Return the results folder to resume, None to start a new one. Raises Refused where --continue cannot."""
    if request.rerun:
        return None
    folder = ResultsDir.newest(request.root, request.preset)
    if folder is None:
        return None
    messages = changes(folder, request.configs)
    if not request.resume:
        return None if messages or extends_epochs(folder, request.configs) else folder
    if messages:
        listed = "\n".join(f"  {line}" for line in messages)
        raise Refused(
            f"the configuration is no longer that of {folder.path}:\n{listed}\n"
            "Only EPOCHS may grow. Undo the change to go on, or start anew with `make`."
        )
    return folder


@contextlib.contextmanager
def open_folder(request: Request) -> Iterator[ResultsDir]:
    """Hold the folder to train into, made or brought up to date, inside the `with` block.

    Runners of other folders are not kept waiting. Only the first of those who join holds their folder.
    Raises Refused where another runner is at these runs, or joins one that is at others.
    """
    with contextlib.ExitStack() as held:
        with locked(request.root / ".lock", FOLDER_TIMEOUT):  # nobody trains with it: each holds it for moments
            folder = prepare_folder(request, held)
        yield folder


def prepare_folder(request: Request, held: contextlib.ExitStack) -> ResultsDir:
    """Find or make the folder, and lock it until `held` ends. The root of all results must be locked."""
    folder = find_folder(request)
    if folder is None and request.join:
        refuse_other_runs(request)
    folder = folder or ResultsDir.create(request.root, request.preset)
    try:
        held.enter_context(folder.lock())
    except Locked as busy:
        if not request.join:
            raise Refused(
                f"{busy}, which trains these runs: `make join` trains those that it has not begun, "
                "`make RESULTS_DIR=...` all of them elsewhere"
            ) from None
        record_machine(folder, environment.describe(ROOT))
    else:
        if unfinished(folder, request.configs):
            kconfig.save(request.symbols, folder.config)
            write_plan(folder, request.configs, request.source, request.overrides, environment.describe(ROOT))
    return folder


def refuse_other_runs(request: Request) -> None:
    """Raise Refused where those who train the newest runs of this preset train others than are to be joined."""
    newest = ResultsDir.newest(request.root, request.preset)
    if newest is None:
        return
    try:
        with newest.lock():
            pass
    except Locked as busy:
        raise Refused(f"{busy} for other runs: join it with the same .config and the same NAME=value") from None


def write_plan(
    folder: ResultsDir,
    configs: list[RunConfig],
    source: Path,
    overrides: Mapping[str, str],
    machine: dict[str, Any],
) -> None:
    """Write what describes the matrix, and the configuration of each run.

    A new folder gets matrix.yaml last: with it the folder counts as a results folder. One that is resumed gets it
    first: should we be killed, the next start knows the overrides that some runs already have.
    """
    record_machine(folder, machine)
    new = not folder.matrix.exists()
    if not new:
        write_matrix(folder, configs, source, overrides)
    for config in configs:
        write_run(folder.run(config.run_id), config)
    if new:
        write_matrix(folder, configs, source, overrides)
    folder.set_latest()


def record_machine(folder: ResultsDir, machine: dict[str, Any]) -> None:
    """Write environment.json. The machine of a later start is added to the first one: runs may come from both."""
    if old := read_json(folder.environment):
        machine = {**old, "resumed": [*old.get("resumed", []), machine]}
    else:
        machine = {**machine, "time": ResultsDir.next_start(folder.path.parent)}
    write_json(folder.environment, machine)


def write_matrix(folder: ResultsDir, configs: list[RunConfig], source: Path, overrides: Mapping[str, str]) -> None:
    """Write matrix.yaml: the runs in order, what chose them, what they span, and the overrides of the command line."""
    matrix = {
        "runs": [config.run_id for config in configs],
        "chosen_by": folder.read_matrix().get("chosen_by") or origin(source),
        "source": str(source.absolute()),
        "overrides": dict(overrides),
        "models": list(dict.fromkeys(config.model for config in configs)),
        "optimizers": list(dict.fromkeys(config.optimizer for config in configs)),
        "pruning_methods": list(dict.fromkeys(config.pruning_method for config in configs)),
        "sparsity_levels": sorted({c.target_sparsity for c in configs if c.pruning_method != "none"}),
        "seeds": sorted({config.seed for config in configs}),
    }
    write_atomic(folder.matrix, yaml.safe_dump(matrix, sort_keys=False, allow_unicode=True))


def origin(source: Path) -> str:
    """Return what chose the runs of a configuration.

    `defconfig-NAME` where the file is that preset's unchanged, `menuconfig` where it is not, or the name of a YAML
    matrix.
    """
    if source.suffix in (".yaml", ".yml"):
        return source.name
    preset = kconfig.preset_of(kconfig.load(ROOT, source), ROOT)
    return f"defconfig-{preset}" if preset else "menuconfig"


def write_run(run: RunDir, config: RunConfig) -> None:
    """Write config.yaml and mark the run queued if it is to be trained.

    A run that is still being written, by a process that outlives its killed runner, is left alone.
    """
    with contextlib.suppress(Locked), run.lock():
        text = config.to_yaml()
        try:
            same = read_regular(run.config).decode() == text
        except (OSError, ValueError):
            same = False
        if not same:
            write_atomic(run.config, text)
        if not is_finished(run, config):
            run.write_status("queued", epochs=config.epochs)
