#!/usr/bin/env python3
"""Predict the memory that each run of the configured matrix will need. No GPU is needed, nothing is allocated.

  memory.py [NAME=value ...]               table for .config (or the quickstart preset), by category
  memory.py --gpu-mib 8000 [NAME=value]    which runs fit into a GPU of so many MiB, and the largest batch that does
  memory.py --config FILE                  a preset or a YAML matrix instead of .config
  memory.py --json                         the same as JSON, in bytes

One step, one evaluation, one optimizer step and one mask update of each run are done on tensors without data.
Figures are MiB (2^20 bytes) of tensors, operations run one by one: torch.compile needs less; the CUDA context, the
libraries' workspaces and fragmentation come on top. PRECISION=auto counts as bf16 unless DEVICE=cpu.

Exit code: 0, 1 where a run could not be predicted (the others are shown all the same), 2 bad configuration or usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config import kconfig
from lib.config.command import run_command
from lib.config.matrix import load_matrix
from lib.memory_estimate.table import text
from lib.memory_estimate.worker import Failures, predict_runs, print_failures, read_runs, to_json


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; exit with code 2 if it is wrong."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="memory.py", description=__doc__, formatter_class=formatter)
    parser.add_argument("--config", type=Path, metavar="FILE", help="preset or YAML matrix")
    parser.add_argument("--runs", action="store_true", help="read the runs from stdin: YAML documents of config.yaml")
    parser.add_argument("--gpu-mib", metavar="MIB", help="size of the GPU, MiB")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables, in bytes")
    parser.add_argument("overrides", nargs="*", metavar="NAME=value", help="symbols to change")
    args = parser.parse_args(argv)
    if args.gpu_mib is not None:
        try:
            size = float(args.gpu_mib)
        except ValueError:
            size = 0.0
        if not 0 < size < 1e9:
            parser.exit(2, f"GPU_MIB={args.gpu_mib}: a number of MiB above 0 is expected\n")
        args.gpu_mib = size
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_command(lambda: predict(args))


def predict(args: argparse.Namespace) -> int:
    """Predict and print; return the exit code."""
    unreadable: Failures = {}
    if args.runs:
        runs, unreadable = read_runs(sys.stdin.read())
    else:
        _, runs = load_matrix(ROOT, args.config, dict(map(kconfig.parse_override, args.overrides)))
    predictions, batches, failures = predict_runs(runs, args.gpu_mib)
    if args.json:
        print(to_json(predictions, args.gpu_mib, batches))
    elif predictions:
        print(text(predictions, args.gpu_mib, batches))
    print_failures(unreadable | failures)
    return 1 if unreadable or failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to save: Ctrl-C ends it without a traceback
    sys.exit(main())
