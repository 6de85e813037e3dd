"""The compiled step of compact weights on the CPU: built on demand from kernel.c, never required.

Where no C compiler is found, or the folder for compiled files cannot be written, ``load()`` gives None and AdamWPrune
takes the same step with torch's own operations. Results of the two agree to rounding, as those of torch's fused and
unfused AdamW do.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..pruning import masks

SOURCE = Path(__file__).with_name("kernel.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")

Kernel = Callable[..., int]


class Settings(ctypes.Structure):
    """``struct settings`` of kernel.c."""

    _fields_ = tuple(
        (name, ctypes.c_float)
        for name in ("decay", "weight1", "beta2", "weight2", "root2", "eps", "step_size", "sign")
    )


@cache
def load() -> Kernel | None:
    """The compiled kernel, or None where it cannot be had. Built once per machine and source."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    try:
        library = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None
    kernel = library.adamw_compact
    kernel.restype = ctypes.c_long
    kernel.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long, ctypes.POINTER(Settings)]
    return kernel


def usable(weight: Tensor) -> bool:
    """Whether the kernel can step this tensor: float32 on the CPU, and a compiler there to build it."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and load() is not None


def step(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """AdamW's update of the survivors, in place.

    Args:
        weight, gradient: flat float32 tensors in the same memory order.
        state: compact state of the weight, its ``step`` counting this one already.
        group: parameter group.
    """
    kernel = load()
    assert kernel is not None
    settings = _settings(int(state["step"].item()), group)
    item = weight.element_size()
    addresses = [tensor.data_ptr() for tensor in (weight, gradient, state["exp_avg"], state["exp_avg_sq"])]
    bits, first, calls = state["mask"].data_ptr(), 0, []
    for (start, stop), kept in zip(masks.slices(weight.numel()), state["kept"], strict=True):
        offsets = (start * item, start * item, first * item, first * item)
        calls.append((*(a + o for a, o in zip(addresses, offsets, strict=True)), bits + start // 8, stop - start))
        first += kept
    if len(calls) == 1 or torch.get_num_threads() == 1:
        for call in calls:
            kernel(*call, settings)
    else:  # ctypes gives the interpreter lock away, so that slices really run side by side
        list(_threads(torch.get_num_threads()).map(lambda call: kernel(*call, settings), calls))


def _settings(step: int, group: dict[str, Any]) -> Settings:
    beta1, beta2 = group["betas"]
    rate = float(group["lr"])
    return Settings(
        decay=1 - rate * group["weight_decay"],
        weight1=1 - beta1,
        beta2=beta2,
        weight2=1 - beta2,
        root2=(1 - beta2**step) ** 0.5,
        eps=group["eps"],
        step_size=-rate / (1 - beta1**step),
        sign=-1.0 if group["maximize"] else 1.0,
    )


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="adamwprune")


def _build(compiler: str) -> Path:
    """Compile into the user's cache, under a name that tells source, flags and processor apart; atomically."""
    identity = "\0".join([SOURCE.read_text(), *FLAGS, compiler, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamwprune"
    built = folder / f"kernel-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "kernel.so"
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(fresh), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            fresh.replace(built)
    return built


def _processor() -> str:
    """What ``-march=native`` depends on, so that machines sharing a home folder do not share the file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(named))) or platform.processor() or platform.machine()
