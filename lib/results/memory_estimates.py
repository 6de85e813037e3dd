"""Predicted peaks of the runs of a results folder, kept there as predicted.json once they are made."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..storage.files import write_atomic
from ..storage.project import ROOT
from ..storage.terminal import visible
from .records import Results, known_bytes

FILE = "predicted.json"

#: The process that predicts. It runs in ROOT, so that `-m` finds modules of this project and of nothing else.
WORKER = (sys.executable, "-m", "lib.memory_estimate.worker")
SECONDS = 120  # limit of the worker, which imports torch so that this process need not


def with_predictions(results: Results) -> Results:
    """Return the same results, with `memory_predicted` in bytes in a run's summary where it could be made."""
    if results.path is None:
        return results
    peaks = read(results.path / FILE)
    if not {run.name for run in results.runs} <= peaks.keys():
        predict(results)
        peaks = read(results.path / FILE)
    runs = [
        replace(run, summary=run.summary | {"memory_predicted": peaks[run.name]}) if run.name in peaks else run
        for run in results.runs
    ]
    return replace(results, runs=tuple(runs))


def read(path: Path) -> dict[str, float]:
    """Return bytes by run id from what `memory.py --json` wrote; empty where there is nothing whole to read.

    Of a prediction only what runs count as well: the pass of the stage that needs most, without the data set and
    temporary tensors, so that predicted and measured stand for the same things.
    """
    try:
        entries = json.loads(path.read_text())
        return {
            str(entry["run"]): max(sum(known_bytes(moments["pass"]).values()) for moments in entry["stages"].values())
            for entry in entries
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def predict(results: Results) -> None:
    """Let memory.py predict all runs from their config.yaml. For which it cannot, it is said why, and no error."""
    assert results.path is not None
    configs = [path for run in results.runs if run.path and (path := run.path / "config.yaml").is_file()]
    documents = "".join(f"---\n{path.read_text(errors='replace')}\n" for path in configs)
    try:
        done = subprocess.run(WORKER, cwd=ROOT, input=documents, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no predicted peaks: {error}", file=sys.stderr)
        return
    if done.returncode:
        errors = done.stderr.strip().splitlines()
        reason = visible(errors[-1]) if errors else f"exit code {done.returncode}"
        print(f"no predicted peaks: {reason}", file=sys.stderr)
    with suppress(ValueError):
        if json.loads(done.stdout):
            write_atomic(results.path / FILE, done.stdout)
