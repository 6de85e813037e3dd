"""Predict the memory of runs; as a process of its own, for callers that must not import torch.

    python -m lib.memory_estimate.worker < documents

Reads runs as YAML documents of config.yaml from stdin, separated by lines `---`, and writes a JSON list to stdout, in
bytes. A run that cannot be predicted is missing from the list and named on stderr. Exit code: 0, or 1 in that case.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..config.errors import ConfigError
from ..config.run_config import RunConfig
from ..data.errors import DataError
from ..training.models import load_build_model
from .gpu_packing import MIB, available_mib

if TYPE_CHECKING:
    from .estimator import Prediction

Failures = dict[str, list[str]]  # for each reason the runs that could not be predicted


def read_runs(text: str) -> tuple[list[RunConfig], Failures]:
    """Parse YAML documents of config.yaml; return the runs, and the documents that are not a run."""
    runs: list[RunConfig] = []
    failures: Failures = {}
    for number, document in enumerate(filter(str.strip, re.split(r"^---$", text, flags=re.MULTILINE)), 1):
        try:
            runs.append(RunConfig.from_yaml(document))
        except ConfigError as error:
            failures.setdefault(reason_of(error), []).append(f"run {number} of those given")
    return runs, failures


def predict_runs(runs: Iterable[RunConfig], gpu_mib: float | None) -> tuple[list[Prediction], dict[str, int], Failures]:
    """Predict the memory of runs.

    Args:
        runs: configurations.
        gpu_mib: size of the GPU, MiB; None: no batch sizes are searched for.

    Returns:
        Predictions in the order of the runs, the largest batch size that fits for each run id, and failures.
    """
    from .estimator import MemoryEstimator  # imports torch

    estimator = MemoryEstimator(load_build_model)
    predictions: list[Prediction] = []
    batches: dict[str, int] = {}
    failures: Failures = {}
    for run in runs:
        try:
            prediction = estimator.predict(run)
            if gpu_mib:
                batches[run.run_id] = estimator.largest_batch(prediction.config, int(available_mib(gpu_mib) * MIB))
            predictions.append(prediction)
        except Exception as error:  # whatever building a model can raise; the other runs are still predicted
            failures.setdefault(reason_of(error), []).append(run.run_id)
    return predictions, batches, failures


def reason_of(error: Exception) -> str:
    """Return the first line of an error's message, after its type unless the message is one of ours."""
    lines = str(error).strip().splitlines()
    message = lines[0] if lines else ""
    is_sentence = message and isinstance(error, ConfigError | DataError | ValueError)
    return message if is_sentence else f"{type(error).__name__}: {message}"


def to_json(predictions: Iterable[Prediction], gpu_mib: float | None, batches: dict[str, int]) -> str:
    """Return predictions as a JSON list, in bytes."""
    return json.dumps([record_of(prediction, gpu_mib, batches) for prediction in predictions], indent=2)


def record_of(prediction: Prediction, gpu_mib: float | None, batches: dict[str, int]) -> dict[str, Any]:
    """Return what the JSON list says of one run."""
    config = prediction.config
    record: dict[str, Any] = {
        "run": config.run_id,
        "precision": config.precision,
        "batch_size": config.batch_size,
        "predicted_peak": prediction.peak,
        "predicted_training_peak": {stage: prediction.training_peak(stage) for stage in prediction.stages},
        "predicted_evaluation_peak": prediction.evaluation_peak,
        "stages": prediction.stages,
    }
    if gpu_mib:
        fits = prediction.peak <= available_mib(gpu_mib) * MIB
        record |= {"fits": fits, "largest_batch": batches[config.run_id]}
    return record


def print_failures(failures: Failures) -> None:
    """Write one line for each reason to stderr, with the runs that could not be predicted."""
    for reason, names in failures.items():
        print(f"no prediction for {', '.join(dict.fromkeys(names))}: {reason}", file=sys.stderr)


def main() -> int:
    """Predict the runs on stdin; return the exit code."""
    runs, unreadable = read_runs(sys.stdin.read())
    predictions, batches, failures = predict_runs(runs, None)
    print(to_json(predictions, None, batches))
    print_failures(unreadable | failures)
    return 1 if unreadable or failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to save: Ctrl-C ends it without a traceback
    sys.exit(main())
