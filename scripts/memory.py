#!/usr/bin/env python3
"""Predict the memory that each run of the configured matrix will need. No GPU is needed, nothing is allocated.

  memory.py [NAME=value ...]               table for .config (or the quickstart preset), by category
  memory.py --gpu-mib 8000 [NAME=value]    which runs fit into a GPU of so many MiB, and the largest batch that does
  memory.py --config FILE                  a preset or a YAML matrix instead of .config
  memory.py --json                         the same as JSON, in bytes

One step, one evaluation, one optimizer step and one mask update of each run are rehearsed on tensors without data.
Figures are MiB (2^20 bytes) of tensors, operations run one by one: torch.compile needs less; the CUDA context, the
libraries' workspaces and fragmentation come on top. PRECISION=auto counts as bf16 unless DEVICE=cpu.

Exit code: 0, 1 where a run could not be predicted (the others are shown all the same), 2 bad configuration or usage.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.config.errors import ConfigError
from lib.config.matrix import load_matrix
from lib.config.run_config import RunConfig
from lib.data.sources import DataError
from lib.memory_estimate.gpu_packing import MIB, available_mib
from lib.memory_estimate.table import text
from lib.training.models import load_build_model

if TYPE_CHECKING:
    from lib.memory_estimate.estimator import Prediction

Failures = dict[str, list[str]]  # for each reason the runs that could not be predicted


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, read; a wrong one ends the program with code 2."""
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
            args.gpu_mib = float(args.gpu_mib)
            if not 0 < args.gpu_mib < 1e9:
                raise ValueError
        except ValueError:
            parser.error(f"GPU_MIB={args.gpu_mib}: a number of MiB above 0 is expected")
    wrong = [text for text in args.overrides if "=" not in text]
    if wrong:
        parser.error(f"{wrong[0]}: NAME=value is expected")
    return args


def main(argv: list[str] | None = None) -> int:
    """Predict and print; returns the exit code."""
    args = arguments(argv)
    unread: Failures = {}
    try:
        if args.runs:
            runs, unread = runs_of(sys.stdin.read())
        else:
            _, runs = load_matrix(config_file=args.config, overrides=dict(o.split("=", 1) for o in args.overrides))
    except (ConfigError, DataError) as problem:
        print(problem, file=sys.stderr)
        return 2
    found, batches, failed = predict(runs, args.gpu_mib)
    if args.json:
        print(json.dumps([as_json(one, args.gpu_mib, batches) for one in found], indent=2))
    elif found:
        print(text(found, args.gpu_mib, batches))
    for reason, names in (unread | failed).items():
        print(f"no prediction for {', '.join(dict.fromkeys(names))}: {reason}", file=sys.stderr)
    return 1 if unread or failed else 0


def runs_of(text: str) -> tuple[list[RunConfig], Failures]:
    """The runs of YAML documents of config.yaml, and those documents that are none."""
    runs: list[RunConfig] = []
    failed: Failures = {}
    for number, document in enumerate(filter(str.strip, re.split(r"^---$", text, flags=re.MULTILINE)), 1):
        try:
            runs.append(RunConfig.from_yaml(document))
        except ConfigError as error:
            failed.setdefault(explain(error), []).append(f"run {number} of those given")
    return runs, failed


def predict(runs: Iterable[RunConfig], gpu_mib: float | None) -> tuple[list[Prediction], dict[str, int], Failures]:
    """Predictions of the runs, in order; the largest batch of each that fits, by run id; whom it failed for, by reason.

    Without `gpu_mib` there are no batches.
    """
    from lib.memory_estimate.estimator import Predictor

    predictor = Predictor(load_build_model)
    found: list[Prediction] = []
    batches: dict[str, int] = {}
    failed: Failures = {}
    for run in runs:
        try:
            one = predictor.predict(run)
            if gpu_mib:
                batches[run.run_id] = predictor.largest_batch(one.config, int(available_mib(gpu_mib) * MIB))
            found.append(one)
        except Exception as error:  # whatever building a model can raise; the others are predicted all the same
            failed.setdefault(explain(error), []).append(run.run_id)
    return found, batches, failed


def explain(error: Exception) -> str:
    """One line; with the error's type unless it is one of those that speak for themselves."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else ""
    speaks = said and isinstance(error, ConfigError | DataError | ValueError)
    return said if speaks else f"{type(error).__name__}: {said}"


def as_json(one: Prediction, gpu_mib: float | None, batches: dict[str, int]) -> dict[str, Any]:
    """One run as JSON holds it. All figures in bytes, predicted."""
    config = one.config
    record: dict[str, Any] = {
        "run": config.run_id,
        "precision": config.precision,
        "batch_size": config.batch_size,
        "predicted_peak": one.peak,
        "predicted_training_peak": {stage: one.training_peak(stage) for stage in one.stages},
        "predicted_evaluation_peak": one.evaluation_peak,
        "stages": one.stages,
    }
    if gpu_mib:
        record |= {"fits": one.peak <= available_mib(gpu_mib) * MIB, "largest_batch": batches[config.run_id]}
    return record


if __name__ == "__main__":
    sys.exit(main())
