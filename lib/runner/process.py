"""Start and stop one training process, and say in one line how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..monitor.recording import MAX_SAMPLES
from ..monitor.sampling import JOBS
from ..storage.files import read_json_lines
from ..storage.received import open_no_link
from ..storage.run_dir import RunDir
from ..training.models import train_script

INTERRUPTED_CODES = (130, 143, -signal.SIGINT, -signal.SIGTERM)

OUT_OF_MEMORY = re.compile(r"out of (GPU )?memory|MemoryError")  # how reasons begin; see explain() of training

# what most often lies behind a signal that nobody in the harness sends
CAUSES = {
    "SIGSEGV": "a crash in native code",
    "SIGABRT": "an abort in native code",
    "SIGBUS": "shared memory or the disk is full, or the hardware failed",
    "SIGILL": "this CPU lacks an instruction that a library uses",
    "SIGXFSZ": "a file reached the size limit (ulimit -f)",
    "SIGXCPU": "the time limit was reached (ulimit -t)",
}


class TrainingProcess:
    """Train a run in a process of its own.

    The process leads a session of its own, so that Ctrl-C in the terminal reaches the runner alone, and
    what it may have left behind can be ended with it. Raises OSError if it cannot be started.
    """

    def __init__(self, root: Path, run: RunDir, config: RunConfig, jobs: int = 1):
        self.run, self.config = run, config
        self.started = time.monotonic()
        self.killed_before = kernel_kills()
        self.usage: Any = None
        command = [sys.executable, str(train_script(config.model, root))]
        command += ["--config", str(run.config.absolute()), "--output", str(run.path.absolute())]
        environment = {**os.environ, "ADAMWPRUNE_PARENT": str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        environment[JOBS] = str(jobs)
        if config.threads:
            environment["OMP_NUM_THREADS"] = str(config.threads)
        run.progress.unlink(missing_ok=True)  # of an earlier start
        with os.fdopen(open_no_link(run.log, os.O_WRONLY | os.O_APPEND), "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                command,
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Return whether the process is over; keeps what it used and ends whatever it left behind."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = usage
        self.signal_group(signal.SIGTERM)
        return True

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def stop(self, number: int) -> None:
        """Ask it to save and end. One that has not begun yet has nothing to save and ends at once."""
        status = self.run.read_status()
        if status.get("state") == "running" and status.get("pid") == self.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        else:
            self.signal_group(signal.SIGKILL)

    def outcome(self, stopping: bool) -> tuple[str, str | None]:
        """Return state and reason of an ended run. `stopping`: the runner itself was asked to stop."""
        status, code = self.run.read_status(), self.process.returncode
        state, reason = status.get("state"), status.get("reason")
        if code == 0 and state == "done":
            return "done", None
        if code > 0 and state in ("failed", "diverged"):
            return state, reason or self.last_error_line()
        if stopping and (code in INTERRUPTED_CODES or state in ("queued", "running", "interrupted")):
            return "interrupted", reason
        if code in INTERRUPTED_CODES:
            return "interrupted", "stopped by a signal from outside"
        if code < 0:
            return "failed", self.killed_reason(-code)
        return "failed", self.last_error_line() or f"ended with exit code {code} and no result"

    def may_be_retried(self, state: str, reason: str | None) -> bool:
        """Return whether the ended run may well succeed if it is tried again: it was killed, or memory ran out."""
        return state == "failed" and (self.process.returncode < 0 or OUT_OF_MEMORY.match(reason or "") is not None)

    def killed_reason(self, number: int) -> str:
        """Return the signal by name, the likely cause, and the peak memory of the process."""
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if number == signal.SIGKILL:
            cause = (
                "the kernel ended it because memory ran out (OOM killer)"
                if kernel_kills() > self.killed_before
                else "most likely the system ran out of memory (OOM killer), or someone ended it by hand"
            )
        else:
            cause = CAUSES.get(name, "sent from outside")
        return f"killed by {name}: {cause}; peak host memory {self.peak_mib():.0f} MiB"

    def peak_mib(self) -> float:
        """Return the largest resident size of the process in MiB; of its whole tree where the monitor saw more."""
        unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB elsewhere
        own = self.usage.ru_maxrss * unit / 2**20 if self.usage else 0.0
        samples, _ = read_json_lines(self.run.gpu, MAX_SAMPLES)
        sampled = [s.get("host_rss_mib") for s in samples]
        return max([own, *(x for x in sampled if isinstance(x, int | float))])

    def last_error_line(self) -> str | None:
        """Return the last exception in this process's log, else its last line."""
        try:
            with self.run.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self.log_start, size - 16384))
                text = log.read().decode(errors="replace")
        except OSError:
            return None
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        last = (errors or lines)[-1:]
        return last[0][:300] if last else None


def kernel_kills() -> int:
    """Return how many processes the kernel has ended for lack of memory so far; 0 where it does not tell."""
    try:
        match = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0
