"""Choose device, precision, compilation and number of threads of a run."""

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
class DeviceSetup:
    """Hold the resolved settings of a run, without `auto`.

    Attributes:
        device: CPU or GPU.
        precision: fp32, bf16 or fp16.
        compiled: whether the model is compiled by torch.compile.
        threads: number of threads of operations on a CPU.
        name: of the device, for messages and tables.
    """

    device: torch.device
    precision: str
    compiled: bool
    threads: int
    name: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for forward passes; weights stay float32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def describe(self) -> str:
        """Return the settings as part of a message."""
        threads = f", {self.threads} threads" if self.device.type == "cpu" else ""
        return f"{self.name}, {self.precision}{', compiled' if self.compiled else ''}{threads}"

    def apply(self) -> None:
        """Make the settings that affect the whole process."""
        torch.set_num_threads(self.threads)
        # Denormal numbers, which shrinking weights and second moments pass through, cost a CPU a hundred cycles each.
        torch.set_flush_denormal(True)


def resolve_device(config: RunConfig) -> DeviceSetup:
    """Resolve what the configuration leaves to `auto`. Raises ConfigError if what it demands is not available."""
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
    return DeviceSetup(device, precision, compiled, config.threads or cores(), name)


def _bf16_is_fast(device: torch.device) -> bool:
    """Return whether the device has bf16 instructions; emulated, bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _can_compile() -> bool:
    """Return whether torch.compile works for a GPU: it needs Triton, and the C compiler that Triton calls."""
    from torch.utils._triton import has_triton  # slow to answer

    return has_triton() and ("CC" in os.environ or any(map(shutil.which, ("gcc", "clang"))))
