"""Name every path of a results folder and of the runs in it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import read_json, write_atomic, write_json
from .locks import locked
from .safe_yaml import read_yaml

STATES = ("queued", "running", "done", "failed", "diverged", "interrupted")
FINAL_STATES = ("done", "failed", "diverged", "interrupted")

# name of a results folder: the preset, then local date and time
FOLDER = re.compile(r"(?P<preset>.+)-(?P<stamp>\d{8}-\d{6})")


class RunDir:
    """Give the paths of one run's folder, its status and its locks."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.name
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.gpu = self.path / "gpu.jsonl"
        self.status = self.path / "status.json"
        self.summary = self.path / "summary.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.previous_checkpoint = self.path / "checkpoint.previous.pt"
        self.weights = self.path / "model.safetensors"
        self.log = self.path / "log.txt"
        self.phase = self.path / "phase"
        self.progress = self.path / "progress.json"
        self.lock_file = self.path / ".lock"
        self.claim_file = self.path / ".claim"

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    def read_status(self) -> dict[str, Any]:
        """Return the status, {} if there is none (or a damaged one)."""
        return read_json(self.status)

    def write_status(self, state: str, reason: str | None = None, **more: Any) -> None:
        """Record a state and what else is known; fields named earlier stay, a new start forgets the old end.

        Raises ValueError for a state that is not one of STATES.
        """
        if state not in STATES:
            raise ValueError(f"state {state!r}: one of {', '.join(STATES)}")
        now = time.time()
        status = self.read_status()
        if state in ("queued", "running"):
            for field in ("finished", "exit_code"):
                status.pop(field, None)
        if state == "running":
            status["pid"] = os.getpid()
            status.setdefault("started", now)
        if state in FINAL_STATES:
            status["finished"] = now
        status.update(state=state, reason=reason, updated=now)
        status.update(more)
        write_json(self.status, status)

    def set_phase(self, name: str) -> None:
        """Say what the run is doing now, for the monitor that samples beside it."""
        write_atomic(self.phase, name + "\n", durable=False)

    def write_progress(self, record: dict[str, Any]) -> None:
        """Record how far the running process is within an epoch; see lib/training/progress_report.py."""
        write_json(self.progress, record, durable=False)

    def read_progress(self) -> dict[str, Any]:
        """Return the newest record of a run that is being trained, {} if there is none (yet).

        Keys: `epoch` in training (from 1), `epochs`, `step` (finished ones of this epoch), `steps` (of an epoch),
        `images_per_second`, `seconds_left` (of the run), `time` (of the record).
        """
        return read_json(self.progress)

    def lock(self, wait: float | None = 0.0) -> contextlib.AbstractContextManager[None]:
        """Be the only writer of this folder. Raises Locked, naming the holder, after `wait` seconds."""
        self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.lock_file, wait)

    def claim(self) -> contextlib.AbstractContextManager[None]:
        """Be the only runner that has this run trained and records how it ended. Raises Locked."""
        self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.claim_file)


class ResultsDir:
    """The folder of one matrix: `results/<preset>-<date>-<time>`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.name
        self.matrix = self.path / "matrix.yaml"
        self.config = self.path / "config"
        self.environment = self.path / "environment.json"
        self.summary_csv = self.path / "summary.csv"
        self.summary_md = self.path / "summary.md"
        self.graphs = self.path / "graphs"
        self.report = self.path / "report.html"

    def __repr__(self) -> str:
        return f"ResultsDir({str(self.path)!r})"

    @classmethod
    def create(cls, root: Path | str, preset: str) -> ResultsDir:
        """Make a new, empty folder; it counts as a results folder once matrix.yaml is written."""
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        while True:
            path = root / f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
            try:
                path.mkdir()
                return cls(path)
            except FileExistsError:
                time.sleep(0.1)  # the name holds whole seconds

    @classmethod
    def by_age(cls, root: Path | str, preset: str | None = None) -> list[ResultsDir]:
        """Return the results folders in `root` (of one preset), the oldest first."""
        root = Path(root)
        names = {path: FOLDER.fullmatch(path.name) for path in (root.iterdir() if root.is_dir() else ())}
        folders = [cls(path) for path, name in names.items() if name and preset in (None, name["preset"])]
        return sorted((folder for folder in folders if folder.path.is_dir()), key=lambda f: (f.started(), f.name))

    @classmethod
    def newest(cls, root: Path | str, preset: str | None = None) -> ResultsDir | None:
        """Return the newest results folder (of one preset) that has its matrix.yaml, None if there is none."""
        return next((folder for folder in reversed(cls.by_age(root, preset)) if folder.matrix.is_file()), None)

    @classmethod
    def next_start(cls, root: Path | str) -> str:
        """Return the time to record for a matrix that starts now, in UTC: later than that of all others in `root`.

        The wall clock may go back, and the names of folders hold local time: neither says which one is newer.
        """
        others = [folder.started() + 0.001 for folder in cls.by_age(root)[-1:]]
        return datetime.fromtimestamp(max([time.time(), *others]), UTC).isoformat(timespec="milliseconds")

    def started(self) -> float:
        """Return when the matrix was started, in seconds since 1970: as recorded, else by the name of the folder."""
        with contextlib.suppress(ValueError, OverflowError):
            recorded = datetime.fromisoformat(str(read_json(self.environment).get("time")))
            if recorded.year < 9999:  # a later one could still be recorded
                return recorded.timestamp()
        name = FOLDER.fullmatch(self.name)
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.strptime(name["stamp"], "%Y%m%d-%H%M%S").timestamp() if name else 0.0
        return 0.0

    def read_matrix(self) -> dict[str, Any]:
        """Return what matrix.yaml says about the whole folder; {} where it is missing or damaged."""
        return read_yaml(self.matrix)

    def run(self, run_id: str) -> RunDir:
        """Return the folder of one run, whether it exists yet or not."""
        return RunDir(self.path / run_id)

    def runs(self) -> list[RunDir]:
        """Return the runs in the order of the matrix; by name where matrix.yaml is missing or damaged."""
        planned = self.read_matrix().get("runs")
        if isinstance(planned, list | dict):
            return [self.run(str(run_id)) for run_id in planned]
        folders = self.path.iterdir() if self.path.is_dir() else ()
        return [RunDir(path) for path in sorted(folders) if (path / "config.yaml").is_file()]

    def set_latest(self) -> None:
        """Point `latest`, beside this folder, here. A file system without links goes without."""
        link = self.path.parent / "latest"
        temporary = link.with_name(f".latest.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            temporary.symlink_to(self.path.name)
            temporary.replace(link)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Be the runner that waits for all runs of this folder, wherever they are trained. Raises Locked."""
        return locked(self.path / ".lock")
