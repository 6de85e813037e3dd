"""Decide how many runs may share one GPU from their predicted peaks, without importing torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ..config.run_config import RunConfig
from ..storage.project import ROOT

MIB = 1024 * 1024

#: What a process needs beside its tensors: CUDA context, kernels, workspaces of cuBLAS and cuDNN. MiB, generous.
CONTEXT_MIB = 800.0

#: Fraction of the rest that the allocator may lose to fragmentation.
FRAGMENTATION = 0.05

#: With more runs at a time they slow each other down more than is gained, and their times mean less.
MAX_RUNS = 4


def available_mib(gpu_mib: float) -> float:
    """Return what is left for the tensors of one run on a GPU of this size, MiB."""
    return max(0.0, (gpu_mib - CONTEXT_MIB) * (1.0 - FRAGMENTATION))


def count_that_fit(peaks_mib: Sequence[float], gpu_mib: float) -> int:
    """Return how many runs fit into a GPU at a time, whichever they are: so many of the largest. At least 1."""
    needs = [CONTEXT_MIB + peak / (1.0 - FRAGMENTATION) for peak in sorted(peaks_mib, reverse=True)]
    count = 0
    while count < min(len(needs), MAX_RUNS) and sum(needs[: count + 1]) <= gpu_mib:
        count += 1
    return max(1, count)


def free_mib() -> float | None:
    """Return the free memory of the GPU that torch would use, MiB; None if there is none or it is unknown."""
    from ..monitor.discovery import find, visible

    mine = [device for device in visible(find(), os.environ) if device.vendor in ("nvidia", "amd")]
    memory = mine[0].read() if mine else {}
    if "device_total_mib" not in memory or "device_used_mib" not in memory:
        return None
    return memory["device_total_mib"] - memory["device_used_mib"]


def runs_per_gpu(configs: Sequence[RunConfig], gpu_mib: float) -> int:
    """Return how many of these runs may be trained at a time on one GPU with this much free memory.

    1 if the prediction fails: sharing a GPU is optional, and its failure must not stop a matrix.
    """
    if len(configs) < 2 or gpu_mib <= CONTEXT_MIB:
        return 1
    documents = "---\n".join(config.to_yaml() for config in configs)
    worker = [sys.executable, "-m", "lib.memory_estimate.worker"]  # found in ROOT, with nothing else on its path
    try:
        done = subprocess.run(
            worker, cwd=ROOT, input=documents, capture_output=True, text=True, timeout=300, check=True
        )
        peaks = [run["predicted_peak"] / MIB for run in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return 1
    return count_that_fit(peaks, gpu_mib)
