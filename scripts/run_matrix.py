"""Train the runs that a configuration asks for, one process each, and write their results as they arise.

    run_matrix.py [--config FILE] [--continue | --rerun | --join] [NAME=value ...]

Reads .config, or FILE: a fragment of Kconfig lines, or a matrix in YAML (*.yaml). NAME=value changes a symbol.
Started again with the same configuration it goes on where it stopped: done runs are kept, interrupted ones go
on from their last checkpoint, failed ones are run again.

    --continue   go on with the newest results folder; only the number of epochs may have grown
    --rerun      start a fresh results folder, even if the newest one has these runs
    --join       train what other runners of these runs have not begun, here or on other machines; the first makes
                 the results folder. It ends when nothing is left to begin

Exit code: 0 all runs done (or, with --join, in hand elsewhere); 1 at least one failed; 2 nothing could be started;
130, 143 interrupted, resumable.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config import kconfig
from lib.config.errors import ConfigError
from lib.config.matrix import default_config, load_matrix
from lib.config.run_config import RunConfig
from lib.config.symbols import Symbols
from lib.data.sources import DataError, locate
from lib.memory_estimate import gpu_packing
from lib.results.load import load
from lib.results.summary import write_summary
from lib.runner import environment
from lib.runner.live_table import ELSEWHERE, Row, display, silence, tell
from lib.runner.resume import (
    changes,
    grows,
    record_machine,
    recorded_overrides,
    source,
    started_from,
    unsettled,
    write_plan,
)
from lib.runner.scheduler import Scheduler
from lib.storage.locks import Locked, locked
from lib.storage.run_dir import STATES, ResultsDir
from lib.training.stop import StopSignals

PLANNING = 30.0  # seconds that another runner may take to make its folder


class Refused(Exception):
    """Nothing is started; the message is the sentence for the user."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="FILE")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--continue", dest="go_on", action="store_true")
    which.add_argument("--rerun", action="store_true")
    which.add_argument("--join", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="NAME=value")
    arguments = parser.parse_intermixed_args(argv)
    if wrong := [text for text in arguments.overrides if "=" not in text]:
        parser.error(f"{wrong[0]!r}: expected NAME=value")
    arguments.overrides = dict(text.split("=", 1) for text in arguments.overrides)
    return arguments


def check_machine(configs: list[RunConfig]) -> None:
    """Raise Refused where a run asks for a GPU that is not there."""
    if any(config.device == "cuda" for config in configs) and (why := environment.why_no_cuda()):
        raise Refused(f"DEVICE=cuda cannot be used: {why}; DEVICE=auto takes the CPU then")


def check_datasets(configs: list[RunConfig]) -> None:
    """Raise Refused where a dataset is absent or damaged; downloads it where that is allowed."""
    asked = {(c.dataset, c.data_dir, c.download, c.train_images, c.validation_images) for c in configs}
    for dataset in sorted(asked):
        try:
            locate(*dataset)
        except DataError as error:
            raise Refused(str(error)) from None


def check_writable(root: Path) -> None:
    """Raise Refused unless files can be made in the results directory, which is made if it is missing."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / f".probe.{os.getpid()}.tmp").open("xb") as probe:
            Path(probe.name).unlink()
    except OSError as error:
        raise Refused(f"results cannot be written to {root}: {error.strerror}") from None


def automatic_jobs(configs: list[RunConfig]) -> int:
    """Runs at a time: on a GPU as many as will fit into its free memory, else as many as the cores can feed."""
    cores = environment.cores()
    if any(config.device != "cpu" for config in configs) and not environment.why_no_cuda():
        free = gpu_packing.free_mib()
        return 1 if free is None else min(cores, gpu_packing.runs_that_share(configs, free))
    return max(1, cores // max(config.threads or cores for config in configs))


@dataclass(frozen=True)
class Asked:
    """What the command line asks for: the runs, and the file and overrides that led to them."""

    symbols: Symbols
    configs: list[RunConfig]
    source: Path
    overrides: dict[str, str]

    @property
    def root(self) -> Path:
        """The folder of all results."""
        return ROOT / Path(str(self.symbols.value("RESULTS_DIR"))).expanduser()

    @property
    def preset(self) -> str:
        return str(self.symbols.value("PRESET"))


def asked(file: Path, overrides: dict[str, str]) -> Asked:
    """Load a configuration. Raises ConfigError with every problem of it."""
    return Asked(*load_matrix(ROOT, file, overrides), file, overrides)


def asked_by(arguments: argparse.Namespace) -> Asked:
    """The configuration meant by a command line.

    With --continue the overrides that the folder was started with still hold; where there is no .config,
    what the newest folder was started from is taken.
    """
    own = default_config(ROOT)
    file, given = arguments.config or own, arguments.overrides
    if not arguments.go_on:
        return asked(file, given)
    if arguments.config or own.name == ".config":
        now = asked(file, given)
        folder, root, preset = ResultsDir.newest(now.root, now.preset), now.root, f" of {now.preset}"
        latest = ResultsDir.newest(root)
        if folder is None and latest is not None and started_from(latest) == file.absolute():
            folder = latest  # under another name: PRESET was given for that start alone
    else:
        root, preset = ROOT / Path(given.get("RESULTS_DIR", "results")).expanduser(), ""
        folder = ResultsDir.newest(root)
        file = folder and source(folder)
    if folder is None:
        raise Refused(f"no results{preset} in {root} to go on with; `make` starts them")
    return asked(file, {**recorded_overrides(folder), **given})


def find_folder(arguments: argparse.Namespace, wanted: Asked) -> ResultsDir | None:
    """The results folder to go on with, None to start a new one. Raises Refused where --continue cannot."""
    if arguments.rerun:
        return None
    folder = ResultsDir.newest(wanted.root, wanted.preset)
    if folder is None:
        return None
    told = changes(folder, wanted.configs)
    if not arguments.go_on:
        return None if told or grows(folder, wanted.configs) else folder
    if told:
        listed = "\n".join(f"  {line}" for line in told)
        raise Refused(
            f"the configuration is no longer that of {folder.path}:\n{listed}\n"
            "Only EPOCHS may grow. Undo the change to go on, or start anew with `make`."
        )
    return folder


def train(arguments: argparse.Namespace) -> int:
    """Check everything, then train what is left to train. The exit code."""
    wanted = asked_by(arguments)
    configs = wanted.configs
    folder = find_folder(arguments, wanted)
    if todo := unsettled(folder, configs) if folder else configs:
        check_machine(todo)
        check_datasets(todo)
    check_writable(wanted.root)
    if arguments.join:
        return run_all(joined(arguments, wanted), wanted, joining=True)
    with locked(wanted.root / ".lock"):
        return run_all(planned(arguments, wanted), wanted)


def planned(arguments: argparse.Namespace, wanted: Asked) -> ResultsDir:
    """The folder to train into, made or brought up to date. To be called by whoever has the folder of all results."""
    folder = find_folder(arguments, wanted)  # another runner may have come in between
    if folder is None:
        folder = ResultsDir.create(wanted.root, wanted.preset)
    if unsettled(folder, wanted.configs):
        kconfig.save(wanted.symbols, folder.config)
        write_plan(folder, wanted.configs, wanted.source, wanted.overrides, environment.describe(ROOT))
    return folder


def joined(arguments: argparse.Namespace, wanted: Asked) -> ResultsDir:
    """The folder that other runners train into; the first to come makes it. Raises Refused if they train other runs."""
    deadline = time.monotonic() + PLANNING
    while True:
        try:
            with locked(wanted.root / ".lock"):
                return planned(arguments, wanted)
        except Locked as busy:
            if folder := find_folder(arguments, wanted):
                record_machine(folder, environment.describe(ROOT))
                return folder
            if time.monotonic() > deadline:
                raise Refused(f"{busy} for other runs: join it with the same .config and the same NAME=value") from None
        time.sleep(0.2)


def run_all(folder: ResultsDir, wanted: Asked, joining: bool = False) -> int:
    """Train the unsettled runs of a folder. The exit code."""
    configs, jobs = wanted.configs, wanted.symbols.value("JOBS")
    todo = unsettled(folder, configs)
    if not todo:
        folder.set_latest()
        states = [str(folder.run(config.run_id).read_status().get("state")) for config in configs]
        return report(folder, states, "these runs are done already; `make rerun` trains them again")
    names = {config.run_id for config in todo}
    rows = []
    for config in configs:
        run = folder.run(config.run_id)
        state = "queued" if run.name in names else str(run.read_status().get("state"))
        rows.append(Row(run, config, state))
        rows[-1].recall()
    jobs = jobs or automatic_jobs(todo)
    kept = f", {len(rows) - len(todo)} of them kept from before" if len(rows) > len(todo) else ""
    tell(f"{count(len(rows))} into {shown(folder.path)}{kept}")
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
    with StopSignals(on_request=lambda number: silence() if number == signal.SIGHUP else None) as stop:
        with display(rows, jobs, terminal) as view:
            Scheduler(ROOT, rows, jobs, view, stop, joining).run()
        remark = "the same command goes on from here" if stop.count else None
        code = report(folder, [row.state for row in rows], remark)
    return stop.exit_code if stop.count and any(row.state != "done" for row in rows) else code


def report(folder: ResultsDir, states: list[str], remark: str | None) -> int:
    """Write the summary, say in one sentence how the runs ended. 0 if all are done or others see to them, else 1."""
    try:
        write_summary(load(folder.path))
    except Exception as error:  # a table that cannot be written takes no run's result with it
        print(f"the summary could not be written: {error}", file=sys.stderr)
    counted = ", ".join(f"{states.count(state)} {state}" for state in (*STATES, ELSEWHERE) if state in states)
    tell(f"{count(len(states))} in {shown(folder.path)}: {counted}" + (f"; {remark}" if remark else ""))
    return 0 if set(states) <= {"done", ELSEWHERE} else 1


def count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def shown(path: Path) -> Path:
    """A path as short as it can be said: from the root of the project if it lies there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    try:
        return train(arguments)
    except (ConfigError, Refused) as error:
        print(error, file=sys.stderr)
    except Locked as busy:
        print(f"{busy}: wait for it, or stop it; nothing was started", file=sys.stderr)
    except OSError as error:
        print(f"nothing was started: {error.filename or 'results'}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
