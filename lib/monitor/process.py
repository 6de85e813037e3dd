"""The monitor beside a run: a process of its own, whose death never disturbs the run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

from ..config.run_config import RunConfig
from ..storage.project import ROOT
from ..storage.run_dir import RunDir

SCRIPT = ROOT / "scripts" / "gputop.py"


class Sampler:
    """Starts `scripts/gputop.py` for this process and ends it again."""

    def __init__(self, config: RunConfig, run: RunDir, say: Callable[[str], None]):
        self.interval, self.run, self.say = config.monitor_interval, run, say
        self.wanted = config.monitor
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not self.wanted:
            return
        self.run.set_phase("startup")  # a resumed run still has the phase in which it ended
        command = [sys.executable, str(SCRIPT), "--pid", str(os.getpid()), "--output", str(self.run.gpu)]
        command += ["--interval", str(self.interval), "--phase-file", str(self.run.phase)]
        quiet = subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError as error:
            self.say(f"warning: no memory samples, the monitor did not start: {error.strerror}")

    def end(self) -> None:
        """End the monitor, if it has not ended before its time, which is worth a warning and no more."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is not None and process.returncode != 0:
            with contextlib.suppress(OSError):
                self.say(
                    f"warning: the monitor ended early (exit code {process.returncode}); memory samples are missing"
                )
            return
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                self.say("warning: the monitor hung; memory samples may be missing")
