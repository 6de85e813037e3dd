"""main() behind every model's train.py: from the command line to an exit code.

Importing torch comes late, so that `--help` and wrong usage answer at once.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import cli
from ..config.command import run_command
from ..config.errors import ConfigError
from ..config.run_config import RunConfig, check_resumable
from ..data.sources import source_of
from ..monitor.process import MonitorProcess
from ..storage.files import write_atomic
from ..storage.project import ROOT
from ..storage.run_dir import RunDir
from .stop import StopSignals

if TYPE_CHECKING:
    from .models import BuildModel

PARENT = "ADAMWPRUNE_PARENT"  # set by the matrix runner: the run ends when that process does


def main(model: str, build_model: BuildModel, argv: list[str] | None = None) -> int:
    """Train one run. Returns 0 done, 1 failed or diverged, 2 wrong usage (nothing started), 130 or 143 stopped.

    Started again with the same output folder, a run goes on where it stopped.
    """
    description = sys.modules[build_model.__module__].__doc__ or ""

    def command() -> int:
        config, output = cli.parse(model, description, sys.argv[1:] if argv is None else argv)
        source_of(config)
        run = RunDir(output or default_output(config))
        # a run of a killed matrix may need a moment to notice: the next matrix's run waits for it
        with run.lock(wait=10.0 if PARENT in os.environ else 0.0):
            return start(config, run, build_model)

    return run_command(command)


def default_output(config: RunConfig) -> Path:
    return ROOT / "results" / f"{config.run_id}-{time.strftime('%Y%m%d-%H%M%S')}" / config.run_id


def seen_from_here(folder: Path) -> str:
    """The folder as a user types it: from where they are, or from the root of the disk, whichever is shorter."""
    return min(os.path.relpath(folder), str(folder.resolve()), key=len)


def start(config: RunConfig, run: RunDir, build_model: BuildModel) -> int:
    """Check what a folder that is not new holds, then train. Raises ConfigError, or OSError, before anything starts."""
    if run.config.exists():
        before = RunConfig.from_yaml(run.config.read_text())
        check_resumable(before, config)
        if run.read_status().get("state") == "done" and run.summary.exists() and before.epochs == config.epochs:
            print(f"{seen_from_here(run.path)} is done already: {config.epochs} epochs")
            return 0
    with StopSignals(parent=int(os.environ.get(PARENT, 0))) as stop:
        stop.on_request = lambda number: end_at_once(stop) if stop.count > 1 else None
        # OpenMP threads that spin while they wait make a training step ten times as slow once anything else wants the
        # cores; read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from . import device  # imports torch

        device.choose(config)
        write_atomic(run.config, config.to_yaml())
        return supervise(config, run, build_model, stop)


def end_at_once(stop: StopSignals, monitor: MonitorProcess | None = None) -> None:
    """End this process without saving, its monitor first."""
    if monitor is not None:
        monitor.end()
    os._exit(stop.exit_code)


def supervise(config: RunConfig, run: RunDir, build_model: BuildModel, stop: StopSignals) -> int:
    """Train with a monitor beside, and record how it ended, whatever happens."""
    from .trainer import Diverged, Interrupted, train

    say = Log(run)
    monitor = MonitorProcess(run, config.monitor_interval if config.monitor else None, say)
    stop.on_request = lambda number: end_at_once(stop, monitor) if stop.count > 1 else None
    why: str | None = None
    try:
        run.write_status("running", epochs=config.epochs)
        monitor.start()
        summary = train(config, run, build_model, stop, say)
    except Interrupted as reason:
        state, why, code = "interrupted", str(reason), 128 + reason.number
    except Diverged as reason:
        state, why, code = "diverged", str(reason), 1
    except ConfigError as problem:
        state, why, code = "failed", str(problem), 2
    except Exception as error:
        say.details(traceback.format_exc())
        state, why, code = "failed", explain(error, config), 1
    else:
        state, code = "done", 0
        say(
            f"done: test accuracy {summary['final_accuracy']:.2f} %, sparsity {100 * summary['final_sparsity']:.1f} %; "
            f"results in {seen_from_here(run.path)}"
        )
    finally:
        monitor.end()
    try:
        if why is not None:
            say(f"{state}: {why}")
        if state == "interrupted":
            say(f"the same command goes on from here with --output {shlex.quote(seen_from_here(run.path))}")
        run.write_status(state, why, exit_code=code)
    except OSError as error:  # the disk may be full
        print(f"{run.path}: {error.strerror}", file=sys.stderr)
    return code


class Log:
    """Say a line on stdout and in log.txt; once only where stdout is that file already."""

    def __init__(self, run: RunDir):
        self.file = run.log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(os.fstat(self.file.fileno()), os.fstat(sys.stdout.fileno())):
                self.file.close()
        self.heard = True

    def __call__(self, line: str) -> None:
        self.details(line + "\n")
        if self.heard:
            try:
                print(line, flush=True)
            except OSError:  # nobody listens any more, which is no reason to stop training
                self.heard = False

    def details(self, text: str) -> None:
        """For the log only."""
        if not self.file.closed:
            self.file.write(text)
        elif text.count("\n") > 1:
            print(text, end="", file=sys.stderr, flush=True)


def explain(error: Exception, config: RunConfig) -> str:
    """One line on why a run failed; for lack of memory with the peak and the likely cause."""
    import torch

    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    advice = f"the likely cause is the batch of {config.batch_size} images: lower BATCH_SIZE"
    if isinstance(error, torch.OutOfMemoryError):
        peak, size = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
        return f"out of GPU memory: peak {peak / 2**20:.0f} of {size / 2**20:.0f} MiB; {advice}"
    if isinstance(error, MemoryError) or "can't allocate memory" in first:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return f"out of memory: peak {peak / 2**20:.0f} MiB; {advice}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {first}"
