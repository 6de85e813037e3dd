"""Read NVIDIA devices through NVML (the package nvidia-ml-py), MIG parts and unified memory included.

Every query is guarded by itself: a driver that refuses one, or dies between two, leaves that reading out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .devices import MIB
from .drm import asleep
from .host import read_text

VENDOR = "0x10de"
PCI = "sys/bus/pci/devices"


def ask(query: Callable[..., Any], *arguments: Any) -> Any:
    """Return the answer of one NVML query, or None: not supported, no permission, device lost, driver gone."""
    try:
        return query(*arguments)
    except Exception:  # NVML's errors share no base with the AttributeError of an old library
        return None


def text(value: Any) -> str:
    """Return one of NVML's strings as text; older versions of the package give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class NvidiaGpu:
    """One physical device, or one MIG part of it (`parent` is then the whole device's handle)."""

    vendor = "nvidia"
    differs = False

    def __init__(
        self, nvml: Any, handle: Any, index: int, parent: Any = None, part: int | None = None, root: Path = Path("/")
    ) -> None:
        self.nvml, self.handle, self.index, self.parent, self.part = nvml, handle, index, parent, part
        whole = parent if parent is not None else handle
        name = text(ask(nvml.nvmlDeviceGetName, whole) or "NVIDIA GPU")
        self.name = name if part is None else f"{name} MIG {part}"
        pci = ask(lambda: text(nvml.nvmlDeviceGetPciInfo(whole).busId))
        uuid = ask(lambda: text(nvml.nvmlDeviceGetUUID(handle)))
        self.ids = tuple(known for known in (uuid, pci) if known)
        self.device = root / PCI / (pci or "").lower()[4:]  # NVML writes eight digits of the domain, the kernel four

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        del among  # the driver counts for the whole device
        if asleep(self.device):
            return {}
        nvml, handle = self.nvml, self.handle
        # A MIG part has memory of its own; power, heat and clocks belong to the whole device.
        whole = self.parent if self.parent is not None else handle
        readings: dict[str, float | None] = {}
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        if rates is not None:
            readings |= {"gpu_utilization": rates.gpu, "memory_utilization": rates.memory}
        memory = self._memory()
        if memory is not None:
            readings |= {"device_used_mib": memory.used / MIB, "device_total_mib": memory.total / MIB}
        readings |= {
            "power_w": _thousandth(ask(lambda: nvml.nvmlDeviceGetPowerUsage(whole))),
            "power_limit_w": _thousandth(ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(whole))),
            "temperature_c": ask(lambda: nvml.nvmlDeviceGetTemperature(whole, nvml.NVML_TEMPERATURE_GPU)),
            "fan_percent": ask(lambda: nvml.nvmlDeviceGetFanSpeed(whole)),
            "clock_mhz": ask(lambda: nvml.nvmlDeviceGetClockInfo(whole, nvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": ask(lambda: nvml.nvmlDeviceGetClockInfo(whole, nvml.NVML_CLOCK_MEM)),
        }
        return {key: float(value) for key, value in readings.items() if value is not None}

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        """Return processes as NVML reports them: in a container their numbers may be the machine's."""
        del among  # one query answers for all
        found: dict[int, float | None] = {}
        if asleep(self.device):
            return found
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for process in ask(lambda name=query: getattr(self.nvml, name)(self.handle)) or []:
                # Some drivers answer 0 inside containers. A context is never that small: the size is unknown.
                used = process.usedGpuMemory / MIB if process.usedGpuMemory else None
                # A process that computes and draws is in both lists with the same bytes.
                known = found.get(process.pid)
                found[process.pid] = used if known is None else max(known, used or 0.0)
        return found

    def _memory(self) -> Any:
        """Return used and total memory; None on devices that share the host's (Grace Blackwell, Jetson).

        Version 2 leaves what the driver reserves for itself out of `used`, as nvidia-smi does.
        """
        nvml = self.nvml
        memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(self.handle, version=nvml.nvmlMemory_v2))
        if memory is None:
            memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(self.handle))
        return memory if memory is not None and memory.total else None


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000.0


def find(
    nvml: Any = None, root: Path = Path("/"), notes: list[str] | None = None, wake: bool = True
) -> list[NvidiaGpu]:
    """Return every NVIDIA device, MIG parts in place of devices cut into them; [] without driver or package.

    To ask the driver wakes the devices. Where all of them are suspended this is done only if `wake` says so.
    """
    if not wake and all_asleep(root):
        if notes is not None:
            notes.append("the NVIDIA GPU sleeps, and is not woken to look at it; --gpu 0 does so")
        return []
    if nvml is None:
        # Loading the library takes a while, so look first whether the kernel has such a device at all.
        if not has_device(root):
            return []
        try:
            import pynvml

            nvml = pynvml
        except ImportError:
            if notes is not None:
                notes.append("an NVIDIA GPU is there, but the package nvidia-ml-py is not installed")
            return []
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except Exception as error:
        if notes is not None:
            notes.append(f"the NVIDIA driver does not answer: {error}")
        return []
    gpus: list[NvidiaGpu] = []
    for index in range(count):
        handle = ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:
            gpus += mig_parts(nvml, handle, index, root) or [NvidiaGpu(nvml, handle, index, root=root)]
    return gpus


def mig_parts(nvml: Any, handle: Any, index: int, root: Path) -> list[NvidiaGpu]:
    """Return the MIG parts of a device; [] when it is whole."""
    mode = ask(lambda: nvml.nvmlDeviceGetMigMode(handle))
    if not mode or mode[0] != 1:
        return []
    parts = []
    for part in range(ask(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        piece = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, part)
        if piece is not None:
            parts.append(NvidiaGpu(nvml, piece, index, handle, part, root))
    return parts


def all_asleep(root: Path) -> bool:
    """Return whether there are NVIDIA display devices and the kernel has suspended all of them."""
    devices = [path for path in (root / PCI).glob("*") if (read_text(path / "vendor") or "").strip() == VENDOR]
    displays = [path for path in devices if (read_text(path / "class") or "").startswith("0x03")]  # not their sound
    return bool(displays) and all(map(asleep, displays))


def has_device(root: Path) -> bool:
    """Return whether Linux or WSL show a driver; True elsewhere, where only NVML can tell; False for recordings."""
    if root.resolve() != Path("/"):
        return False
    if not (root / "proc").exists() or (root / "dev/dxg").exists():
        return True
    if read_text(root / "proc/driver/nvidia/version") is not None:
        return True
    return any((root / "dev").glob("nvidia[0-9]*")) or any((root / "dev").glob("nvhost-*"))
