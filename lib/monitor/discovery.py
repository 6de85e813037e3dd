"""Find the devices of this machine, and choose among them as a program started here would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import amd, intel, nvidia
from .devices import Gpu, label, plain

#: Environment variables that choose devices, by vendor. Each step chooses among those that the one before leaves, and
#: counts within them; of the variables of one step the first that is set counts.
CHOOSING: dict[str, tuple[tuple[str, ...], ...]] = {
    "nvidia": (("CUDA_VISIBLE_DEVICES",),),
    "amd": (("ROCR_VISIBLE_DEVICES",), ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")),
    "intel": (("ZE_AFFINITY_MASK",),),
}


def find(root: Path = Path("/"), nvml: Any = None, notes: list[str] | None = None, wake: bool = True) -> list[Gpu]:
    """Return all GPUs: NVIDIA's through NVML, then AMD's and Intel's through the files under `root`.

    Reasons why a vendor's devices cannot be read are appended to `notes`. Unless `wake` says so, suspended devices that
    looking would wake are left out.
    """
    return [*nvidia.find(nvml, root, notes, wake), *amd.find(root), *intel.find(root)]


def visible(gpus: list[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """Return the GPUs that a program started with this environment sees, in the order it numbers them.

    As in CUDA the list ends at its first entry that names no device, and an empty variable hides all.
    Numbers are taken in bus order (CUDA_DEVICE_ORDER=PCI_BUS_ID), as NVML and nvidia-smi count.
    """
    chosen: list[Gpu] = []
    for vendor, steps in CHOOSING.items():
        left = [gpu for gpu in gpus if gpu.vendor == vendor]
        for number, variables in enumerate(steps):
            value = next((environ[name] for name in variables if name in environ), None)
            if value is not None:
                # Intel's masks may name one tile of a card ("0.1"); the card is what can be read.
                entries = [entry.partition(".")[0] if vendor == "intel" else entry for entry in value.split(",")]
                left = choose(left, entries, by_place=number > 0)
        chosen += left
    return chosen


def choose(gpus: list[Gpu], entries: Iterable[str], by_place: bool) -> list[Gpu]:
    """Return the GPUs that a variable names, up to its first entry that names none.

    Args:
        gpus: those that may be named.
        entries: indices, or beginnings of identifiers.
        by_place: whether an index counts within `gpus`, and not as the vendor's tool counts.
    """
    chosen: list[Gpu] = []
    for entry in map(str.strip, entries):
        if by_place and entry.isdecimal():
            gpu = gpus[int(entry)] if int(entry) < len(gpus) else None
        else:
            gpu = named(gpus, entry)
        if gpu is None:
            break
        chosen += [] if gpu in chosen else [gpu]
    return chosen


def named(gpus: list[Gpu], name: str) -> Gpu | None:
    """Return the GPU with this index or label, or the only one whose UUID or bus address begins so; else None."""
    name = name.lower()
    if not name:
        return None
    if name.isdecimal():
        return next((gpu for gpu in gpus if gpu.index == int(name)), None)
    for gpu in gpus:
        if name in (plain(gpu), f"{gpu.vendor}:{plain(gpu)}"):
            return gpu
    matching = [gpu for gpu in gpus if any(known.lower().startswith(name) for known in gpu.ids)]
    return matching[0] if len(matching) == 1 else None


def hidden(gpus: list[Gpu], environ: Mapping[str, str]) -> str | None:
    """Return a sentence that says which variables hide all GPUs; None where one is visible, or none is there."""
    if not gpus or visible(gpus, environ):
        return None
    vendors = dict.fromkeys(gpu.vendor for gpu in gpus)
    known = [name for vendor in vendors for step in CHOOSING[vendor] for name in step]
    names = dict.fromkeys(name for name in known if name in environ)
    variables = " and ".join(f"{name}={environ[name]!r}" for name in names)
    return f"hidden by {variables}: {listed(gpus)}; --gpu shows one of them all the same"


def listed(gpus: list[Gpu]) -> str:
    """Return the devices by label and name, "none" where there is none."""
    return ", ".join(f"{label(gpu, gpus)} {gpu.name}" for gpu in gpus) or "none"
