"""Where and how a run computes: device, precision, compilation, number of threads."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..config.errors import ConfigError
from ..monitor.host import cores

if TYPE_CHECKING:
    from ..config.run_config import RunConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """The choices that `auto` left open, made. `precision` is fp32, bf16 or fp16."""

    device: torch.device
    precision: str
    compiled: bool
    threads: int
    name: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context for forward passes; weights stay float32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def describe(self) -> str:
        threads = f", {self.threads} threads" if self.device.type == "cpu" else ""
        return f"{self.name}, {self.precision}{', compiled' if self.compiled else ''}{threads}"


def choose(config: RunConfig) -> Compute:
    """Settle what config leaves to `auto`. Raises ConfigError where what it demands is not there."""
    visible = torch.cuda.is_available()
    if config.device == "cuda" and not visible:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"
        raise ConfigError([f"DEVICE=cuda, but torch sees no GPU here{why}; choose DEVICE=auto or DEVICE=cpu"])
    device = torch.device("cuda" if visible and config.device != "cpu" else "cpu")
    on_gpu = device.type == "cuda"
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if _bf16_is_fast(device) else "fp32"
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError(["PRECISION=bf16, but this GPU has no bf16; choose PRECISION=auto, fp32 or fp16"])
    compiled = on_gpu and _can_compile() if config.compile == "auto" else config.compile == "on"
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return Compute(device, precision, compiled, config.threads or cores(), name)


def set_up(compute: Compute) -> None:
    """Settings of the whole process."""
    torch.set_num_threads(compute.threads)
    # Denormal numbers, which shrinking weights and second moments pass through, cost the CPU a hundred cycles each.
    torch.set_flush_denormal(True)


def _bf16_is_fast(device: torch.device) -> bool:
    """On CPUs without bf16 instructions it is emulated, and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _can_compile() -> bool:
    """Whether there is what torch.compile needs for this GPU: Triton for it, and the C compiler that Triton calls."""
    from torch.utils._triton import has_triton  # slow to answer

    return has_triton() and ("CC" in os.environ or any(map(shutil.which, ("gcc", "clang"))))
