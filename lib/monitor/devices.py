"""Define what every vendor's devices answer: readings, processes, names.

A reading that a device does not give is absent. It is never zero, and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

MIB = 1024.0 * 1024.0

#: Every key a device reading may have, with its unit. A key that could not be measured is left out.
READINGS = {
    "gpu_utilization": "%",
    "process_utilization": "%",
    "memory_utilization": "%",
    "device_used_mib": "MiB",
    "device_total_mib": "MiB",
    "power_w": "W",
    "power_limit_w": "W",
    "temperature_c": "°C",
    "fan_percent": "%",
    "fan_rpm": "rpm",
    "clock_mhz": "MHz",
    "memory_clock_mhz": "MHz",
}


class Gpu(Protocol):
    """One device, or one partition of it.

    Attributes:
        index: number of the device, as the vendor's own tool counts.
        part: number of the partition (MIG); None for a whole device.
        differs: whether some readings are differences of two, and so absent the first time.
        name: what the device is sold as.
        vendor: "nvidia", "amd" or "intel".
        ids: other names of the device, such as its UUID and bus address.
    """

    index: int
    part: int | None
    differs: bool
    name: str
    vendor: str
    ids: tuple[str, ...]

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        """Return what is known now, keyed as in READINGS.

        What must be asked of each process is asked of those in `among` only (None: of all).
        """

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        """Return MiB of device memory by process number; None for a process whose amount is unknown.

        Where asking all processes is slow, only those in `among` are asked.
        """


def label(gpu: Gpu, among: Iterable[Gpu]) -> int | str:
    """Return the name by which a device is told apart from the others.

    It is the device's index, or "0:1" for part 1 of device 0, after the vendor ("intel:0") where a device of another
    vendor has the same index.
    """
    own = plain(gpu)
    if any(other.vendor != gpu.vendor and plain(other) == own for other in among):
        return f"{gpu.vendor}:{own}"
    return gpu.index if gpu.part is None else own


def plain(gpu: Gpu) -> str:
    """Return the index, with a colon and the number of the part where there is one, as container runtimes write it."""
    return str(gpu.index) if gpu.part is None else f"{gpu.index}:{gpu.part}"
