"""How many runs may share one GPU, from their predicted peaks. No import of torch: a process of its own predicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ..config.run_config import RunConfig
from ..storage.project import ROOT

MIB = 1024 * 1024

#: What a process takes beside its tensors: CUDA context, kernels, workspaces of cuBLAS and cuDNN. MiB, generous.
CONTEXT_MIB = 800.0

#: Share of the rest that the allocator may lose to fragmentation.
FRAGMENTATION = 0.05

#: More runs than this at a time slow each other down more than they gain, and their times say less.
MOST = 4


def available_mib(gpu_mib: float) -> float:
    """What is left for the tensors of one run on a GPU with so many MiB."""
    return max(0.0, (gpu_mib - CONTEXT_MIB) * (1.0 - FRAGMENTATION))


def that_fit(peaks_mib: Sequence[float], gpu_mib: float) -> int:
    """How many runs fit at a time, whichever they are: the largest together. At least 1."""
    needs = [CONTEXT_MIB + peak / (1.0 - FRAGMENTATION) for peak in sorted(peaks_mib, reverse=True)]
    count = 0
    while count < min(len(needs), MOST) and sum(needs[: count + 1]) <= gpu_mib:
        count += 1
    return max(1, count)


def free_mib() -> float | None:
    """MiB that nobody holds on the GPU that torch would take; None where there is none or it does not tell."""
    from ..monitor.discovery import find, visible

    mine = [device for device in visible(find(), os.environ) if device.vendor in ("nvidia", "amd")]
    memory = mine[0].read() if mine else {}
    if "device_total_mib" not in memory or "device_used_mib" not in memory:
        return None
    return memory["device_total_mib"] - memory["device_used_mib"]


def runs_that_share(configs: Sequence[RunConfig], gpu_mib: float) -> int:
    """How many of these runs may be trained at a time on one GPU with so many free MiB.

    1 where the prediction does not come about: sharing is a convenience, not worth a matrix that does not start.
    """
    if len(configs) < 2 or gpu_mib <= CONTEXT_MIB:
        return 1
    documents = "---\n".join(config.to_yaml() for config in configs)
    command = [sys.executable, str(ROOT / "scripts" / "memory.py"), "--runs", "--json"]
    try:
        done = subprocess.run(command, input=documents, capture_output=True, text=True, timeout=300, check=True)
        peaks = [run["predicted_peak"] / MIB for run in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return 1
    return that_fit(peaks, gpu_mib)
