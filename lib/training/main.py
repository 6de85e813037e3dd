"""Run the command line of a model's train.py and return an exit code.

torch is imported late, so that `--help` and wrong usage answer at once.
"""

from __future__ import annotations

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
from ..config.errors import CommandError
from ..config.run_config import RunConfig, check_resumable
from ..data.sources import source_of
from ..monitor.process import MonitorProcess
from ..storage.files import write_atomic
from ..storage.project import ROOT
from ..storage.received import read_regular
from ..storage.run_dir import RunDir
from .run_log import RunLog, display_path
from .stop import StopSignals

if TYPE_CHECKING:
    from .models import BuildModel

PARENT = "ADAMWPRUNE_PARENT"  # process number of the matrix runner: the run stops when that process ends


def main(model: str, build_model: BuildModel, argv: list[str] | None = None) -> int:
    """Train one run, resuming it if the output folder holds a part of it already.

    Returns 0 done, 1 failed or diverged, 2 wrong usage (nothing started), 130 or 143 stopped.
    """
    description = sys.modules[build_model.__module__].__doc__ or ""

    def command() -> int:
        config, output = cli.parse(model, description, sys.argv[1:] if argv is None else argv)
        source_of(config)
        run = RunDir(output or default_output(config))
        if not run.path.exists():
            check_device(config)  # before there is a folder, so that a refused run leaves none behind
        # a run whose matrix was killed needs a moment to notice it; the same run of the next matrix waits for that
        with run.lock(wait=10.0 if PARENT in os.environ else 0.0):
            return start(config, run, build_model)

    return run_command(command)


def default_output(config: RunConfig) -> Path:
    """Return a new folder under results/ for a run started by hand."""
    return ROOT / "results" / f"{config.run_id}-{time.strftime('%Y%m%d-%H%M%S')}" / config.run_id


def start(config: RunConfig, run: RunDir, build_model: BuildModel) -> int:
    """Check whether the folder holds the same run, then train. Raises ConfigError or OSError before that."""
    if run.config.exists():
        before = RunConfig.from_yaml(read_regular(run.config).decode())
        check_resumable(before, config)
        if run.read_status().get("state") == "done" and run.summary.exists() and before.epochs == config.epochs:
            print(f"{display_path(run.path)} is done already: {config.epochs} epochs")
            return 0
    with StopSignals(parent=int(os.environ.get(PARENT, 0))) as stop:
        stop.on_request = lambda number: end_at_once(stop) if stop.count > 1 else None
        check_device(config)
        write_atomic(run.config, config.to_yaml())
        return supervise(config, run, build_model, stop)


def check_device(config: RunConfig) -> None:
    """Import torch and check that the run's device and precision are there. Raises ConfigError."""
    # OpenMP threads that spin while they wait make a training step ten times as slow once another process uses the
    # cores. The variable is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .device import resolve_device

    resolve_device(config)


def end_at_once(stop: StopSignals, monitor: MonitorProcess | None = None) -> None:
    """End the monitor, then this process, without saving."""
    if monitor is not None:
        monitor.end()
    os._exit(stop.exit_code)


def supervise(config: RunConfig, run: RunDir, build_model: BuildModel, stop: StopSignals) -> int:
    """Train with a monitor running, and record how the run ended, whatever happens."""
    from .trainer import Diverged, Interrupted, train

    log = RunLog(run)
    monitor = MonitorProcess(run, config.monitor_interval if config.monitor else None, log)
    stop.on_request = lambda number: end_at_once(stop, monitor) if stop.count > 1 else None
    why: str | None = None
    try:
        run.write_status("running", epochs=config.epochs)
        monitor.start()
        summary = train(config, run, build_model, stop, log)
    except Interrupted as reason:
        state, why, code = "interrupted", str(reason), 128 + reason.number
    except Diverged as reason:
        state, why, code = "diverged", str(reason), 1
    except CommandError as problem:
        state, why, code = "failed", str(problem), 2
    except Exception as error:
        log.details(traceback.format_exc())
        state, why, code = "failed", explain(error, config), 1
    else:
        state, code = "done", 0
        log(
            f"done: test accuracy {summary['final_accuracy']:.2f} %, sparsity {100 * summary['final_sparsity']:.1f} %; "
            f"results in {display_path(run.path)}"
        )
    finally:
        monitor.end()
    try:
        run.progress.unlink(missing_ok=True)
        if why is not None:
            log(f"{state}: {why}")
        if state == "interrupted":
            log(f"resume with the same command and --output {shlex.quote(display_path(run.path))}")
        run.write_status(state, why, exit_code=code)
    except OSError as error:  # the disk may be full
        print(f"{run.path}: {error.strerror}", file=sys.stderr)
    return code


def explain(error: Exception, config: RunConfig) -> str:
    """Return one line on why a run failed; for lack of memory with the peak and the likely cause."""
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
