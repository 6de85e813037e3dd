"""Train the runs of a request, and say how they ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ..results.load import load
from ..results.summary import write_summary
from ..storage.project import ROOT
from ..storage.run_dir import STATES, ResultsDir
from ..training.stop import StopSignals
from .checks import automatic_jobs, check_datasets, check_machine, check_writable
from .folder import find_folder, open_folder
from .live_table import display, print_line, silence
from .request import Request
from .resume import unfinished
from .row import ELSEWHERE, Row
from .scheduler import Scheduler


def train(request: Request) -> tuple[ResultsDir, int]:
    """Check everything, then train what is left to train. Return the folder of the results and the exit code.

    Raises CommandError or Locked before anything is started.
    """
    folder = find_folder(request)
    if todo := unfinished(folder, request.configs) if folder else request.configs:
        check_machine(todo)
        check_datasets(todo)
    check_writable(request.root)
    with open_folder(request) as folder:
        return folder, run_all(folder, request)


def run_all(folder: ResultsDir, request: Request) -> int:
    """Train the unfinished runs of a folder. Return the exit code."""
    configs = request.configs
    todo = unfinished(folder, configs)
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
    jobs = request.jobs or automatic_jobs(todo)
    kept = f", {len(rows) - len(todo)} of them kept from before" if len(rows) > len(todo) else ""
    print_line(f"{count_runs(len(rows))} into {display_path(folder.path)}{kept}")
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
    with StopSignals(on_request=lambda number: silence() if number == signal.SIGHUP else None) as stop:
        with display(rows, jobs, terminal) as view:
            Scheduler(ROOT, rows, jobs, view, stop, request.join, request.retries).run()
        remark = "the same command goes on from here" if stop.count else None
        code = report(folder, [row.state for row in rows], remark)
    return stop.exit_code if stop.count and any(row.state != "done" for row in rows) else code


def report(folder: ResultsDir, states: list[str], remark: str | None) -> int:
    """Write the summary and print in one sentence how the runs ended.

    Returns 0 if all are done or other runners see to them, else 1.
    """
    try:
        write_summary(load(folder.path))
    except Exception as error:  # a table that cannot be written takes no run's result with it
        print(f"the summary could not be written: {error}", file=sys.stderr)
    counts = [f"{states.count(state)} {state}" for state in STATES if state in states]
    if elsewhere := states.count(ELSEWHERE):
        counts.append(f"{elsewhere} still being trained by another runner")
        remark = remark or "`make summary` shows all of them once they are done"
    remark = f"; {remark}" if remark else ""
    print_line(f"{count_runs(len(states))} in {display_path(folder.path)}: {', '.join(counts)}{remark}")
    return 0 if set(states) <= {"done", ELSEWHERE} else 1


def count_runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def display_path(path: Path) -> Path:
    """Return a path relative to the root of the project if it lies there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
