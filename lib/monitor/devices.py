"""Reading GPUs without torch: one file per vendor, all answering the same three questions.

What a device does not tell is absent from a reading. It is never zero, and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

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
    """One device. `index` counts as the vendor's own tool counts; `ids` are other names it answers to.

    `part` is the number of a MIG part, None for a whole device. `differs` says that some readings are differences
    of two and so missing the first time.
    """

    index: int
    part: int | None
    differs: bool
    name: str
    vendor: str
    ids: tuple[str, ...]

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        """What is known now, keyed as in READINGS; what must be asked of each process, only of `among`."""

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        """MiB of device memory by process number; None where a process has some, but how much is unknown.

        Where asking all processes is dear, only those `among` are asked.
        """


def find(root: Path = Path("/"), nvml: Any = None, notes: list[str] | None = None) -> list[Gpu]:
    """All GPUs of this machine: NVIDIA through NVML, then AMD and Intel through the files under `root`.

    Reasons why a vendor's devices cannot be read are appended to `notes`.
    """
    from . import amd, intel, nvidia

    return [*nvidia.find(nvml, root, notes), *amd.find(root), *intel.find(root)]


def label(gpu: Gpu, among: Iterable[Gpu]) -> int | str:
    """What to call a device so that it is told apart from the others: its index, "0:1" for part 1 of device 0, and
    with the vendor before it ("intel:0") where another vendor's device has the same."""
    own = plain(gpu)
    if any(other.vendor != gpu.vendor and plain(other) == own for other in among):
        return f"{gpu.vendor}:{own}"
    return gpu.index if gpu.part is None else own


def plain(gpu: Gpu) -> str:
    """The index, with a colon and the number of the part where there is one, as container runtimes write it."""
    return str(gpu.index) if gpu.part is None else f"{gpu.index}:{gpu.part}"


#: Environment variables that choose devices, by vendor.
CHOOSING = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "intel": ("ZE_AFFINITY_MASK",),
}


def visible(gpus: list[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs a program started with this environment sees, in the order it numbers them.

    As in CUDA the list ends at its first entry that names no device, and an empty variable hides them all.
    Numbers are taken in bus order (CUDA_DEVICE_ORDER=PCI_BUS_ID), as NVML and nvidia-smi count.
    """
    chosen: list[Gpu] = []
    for vendor, variables in CHOOSING.items():
        mine = [gpu for gpu in gpus if gpu.vendor == vendor]
        wanted = next((environ[name] for name in variables if name in environ), None)
        if wanted is None:
            chosen += mine
            continue
        for entry in wanted.split(","):
            # Intel's masks may name one tile of a card ("0.1"); the card is what can be read.
            entry = entry.partition(".")[0] if vendor == "intel" else entry
            gpu = named(mine, entry.strip())
            if gpu is None:
                break
            chosen += [] if gpu in chosen else [gpu]
    return chosen


def named(gpus: list[Gpu], wanted: str) -> Gpu | None:
    """The GPU with this index or label, or the only one with an identifier that begins so (UUID, bus address)."""
    wanted = wanted.lower()
    if not wanted:
        return None
    if wanted.isdecimal():
        return next((gpu for gpu in gpus if gpu.index == int(wanted)), None)
    for gpu in gpus:
        if wanted in (plain(gpu), f"{gpu.vendor}:{plain(gpu)}"):
            return gpu
    matching = [gpu for gpu in gpus if any(name.lower().startswith(wanted) for name in gpu.ids)]
    return matching[0] if len(matching) == 1 else None


def hidden(gpus: list[Gpu], environ: Mapping[str, str]) -> str | None:
    """A sentence for a user who sees none of the GPUs that are there; None where one is visible, or none is there."""
    if not gpus or visible(gpus, environ):
        return None
    vendors = dict.fromkeys(gpu.vendor for gpu in gpus)
    names = dict.fromkeys(name for vendor in vendors for name in CHOOSING[vendor] if name in environ)
    told = " and ".join(f"{name}={environ[name]!r}" for name in names)
    return f"hidden by {told}: {there(gpus)}; --gpu shows one of them all the same"


def there(gpus: list[Gpu]) -> str:
    """The devices by label and name, "none" where there is none."""
    return ", ".join(f"{label(gpu, gpus)} {gpu.name}" for gpu in gpus) or "none"
