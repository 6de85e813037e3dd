"""A stand-in for the module pynvml: devices as plain data, and a driver that can be made to fail.

What a device dict does not hold answers as "not supported". `dead` makes every later query fail, as after a
lost device; `hidden` lets a query be missing from the library altogether, as in an old one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024


class FakeError(Exception):
    """NVML's own error: `NVMLError_NotSupported` and its like."""


def device(**more: Any) -> dict[str, Any]:
    """A whole, healthy device of 80 GB."""
    return {
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-11111111-aaaa",
        "bus": "00000000:1B:00.0",
        "used": 20_000 * MIB,
        "total": 81_559 * MIB,
        "load": (87, 41),
        "power": 412_345,
        "limit": 700_000,
        "temperature": 61,
        "clocks": {1: 1980, 2: 2619},
        "compute": [],
        "graphics": [],
        **more,
    }


def process(pid: int, mib: float | None) -> SimpleNamespace:
    """A running process; None is how nvidia-ml-py says that the size is not available."""
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else int(mib * MIB))


class FakeNvml:
    """The part of pynvml that gputop uses. Handles are the device dicts themselves."""

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    nvmlMemory_v2 = 2

    def __init__(self, *devices: dict[str, Any], init_fails: bool = False, second_version: bool = True) -> None:
        self.devices, self.init_fails, self.second_version = devices, init_fails, second_version
        self.dead = False
        self.queries = 0

    def get(self, handle: dict[str, Any], key: str) -> Any:
        self.queries += 1
        if self.dead or handle.get("lost") or key not in handle:
            raise FakeError("GPU is lost" if self.dead else "Not Supported")
        return handle[key]

    def nvmlInit(self) -> None:
        if self.init_fails:
            raise FakeError("Driver/library version mismatch")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.devices[index]

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> Any:
        return self.get(handle, "name")

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> Any:
        return self.get(handle, "uuid")

    def nvmlDeviceGetPciInfo(self, handle: dict[str, Any]) -> Any:
        return SimpleNamespace(busId=self.get(handle, "bus"))

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any], version: int | None = None) -> Any:
        if version is not None and not self.second_version:
            raise FakeError("Function Not Found")
        # version 1 counts what the driver keeps for itself as used
        reserved = handle.get("reserved", 0) if version is None else 0
        used, total = self.get(handle, "used"), self.get(handle, "total")
        return SimpleNamespace(used=used + reserved, total=total)

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:
        gpu, memory = self.get(handle, "load")
        return SimpleNamespace(gpu=gpu, memory=memory)

    def nvmlDeviceGetPowerUsage(self, handle: dict[str, Any]) -> int:
        return int(self.get(handle, "power"))

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: dict[str, Any]) -> int:
        return int(self.get(handle, "limit"))

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return int(self.get(handle, "temperature"))

    def nvmlDeviceGetFanSpeed(self, handle: dict[str, Any]) -> int:
        return int(self.get(handle, "fan"))

    def nvmlDeviceGetClockInfo(self, handle: dict[str, Any], which: int) -> int:
        return int(self.get(handle, "clocks")[which])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> Any:
        return self.get(handle, "compute")

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: dict[str, Any]) -> Any:
        return self.get(handle, "graphics")

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> tuple[int, int]:
        return (1, 1) if self.get(handle, "parts") else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:
        return len(self.get(handle, "parts"))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> dict[str, Any]:
        part = self.get(handle, "parts")[index]
        if part is None:
            raise FakeError("Not Found")
        return dict(part) if not isinstance(part, dict) else part
