"""Run the monitor beside a run, as a process of its own, whose death never disturbs the run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

from ..storage.project import ROOT
from ..storage.run_dir import RunDir

#: How the recorder is started. It runs in ROOT, so that `-m` finds modules of this project and of nothing else.
COMMAND = (sys.executable, "-m", "lib.monitor.watch")


class MonitorProcess:
    """Records the memory of this process and of its devices into the folder of a run.

    Args:
        run: the run's folder.
        interval: seconds between samples; None records nothing.
        log: called with one line where something goes wrong.
    """

    def __init__(self, run: RunDir, interval: float | None, log: Callable[[str], None]):
        self.run, self.interval, self.log = run, interval, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start recording."""
        if self.interval is None:
            return
        self.run.set_phase("startup")  # a resumed run still has the phase in which it ended
        output, phase = self.run.gpu.absolute(), self.run.phase.absolute()
        command = [*COMMAND, "--pid", str(os.getpid()), "--output", str(output)]
        command += ["--interval", str(self.interval), "--phase-file", str(phase)]
        quiet = subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError as error:
            self.log(f"warning: no memory samples, the monitor did not start: {error.strerror}")

    def end(self) -> None:
        """Stop recording; log a warning where the recorder has ended early or does not end."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is not None and process.returncode != 0:
            code = process.returncode
            self._warn(f"warning: the monitor ended early (exit code {code}); memory samples are missing")
            return
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._warn("warning: the monitor hung; memory samples may be missing")

    def _warn(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk
            self.log(line)
