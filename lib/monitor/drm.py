"""Read what the Linux kernel tells about any GPU: sysfs of the card, its hwmon sensors, fdinfo of its users.

Formats: Documentation/gpu/drm-usage-stats.rst and Documentation/hwmon/sysfs-interface.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .host import read_number, read_text

#: Files below /dev that many processes have open and that are no GPU: they are not worth a look at their fdinfo.
NO_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/shm/", "/dev/pts/", "/dev/tty")

UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True)
class Card:
    """One card below /sys/class/drm: `folder` is the card's, `device` that of its PCI device."""

    folder: Path
    device: Path
    slot: str  # 0000:03:00.0
    driver: str
    device_id: str  # 0x744c

    def sensor(self, name: str) -> float | None:
        """Return a number from the card's hwmon folder, in hwmon's units (millidegrees, microwatts, hertz)."""
        for folder in sorted(self.device.glob("hwmon/hwmon*")):
            value = read_number(folder / name)
            if value is not None:
                return value
        return None

    def label(self, name: str) -> str:
        """Return a label from the hwmon folder, "" where there is none."""
        texts = (read_text(folder / name) for folder in sorted(self.device.glob("hwmon/hwmon*")))
        return next((text.strip() for text in texts if text), "")

    def asleep(self) -> bool:
        """Return whether the kernel has suspended the card."""
        return asleep(self.device)


def asleep(device: Path) -> bool:
    """Return whether the kernel has suspended a PCI device, as laptops do; reading its sensors would wake it."""
    return (read_text(device / "power/runtime_status") or "").strip() == "suspended"


def cards(root: Path, vendor: str) -> list[Card]:
    """Return the cards of a vendor (PCI number such as "0x1002") in bus order."""
    found = []
    for folder in (root / "sys/class/drm").glob("card*"):
        device = folder / "device"
        if not folder.name[4:].isdigit() or (read_text(device / "vendor") or "").strip() != vendor:
            continue  # connectors are called card0-DP-1
        uevent = dict(line.partition("=")[::2] for line in (read_text(device / "uevent") or "").splitlines())
        slot, driver = uevent.get("PCI_SLOT_NAME", folder.name), uevent.get("DRIVER", "")
        found.append(Card(folder, device, slot, driver, (read_text(device / "device") or "").strip()))
    return sorted(found, key=lambda card: card.slot)


@dataclass
class Client:
    """One user of a card: an open file that the kernel accounts for, however many descriptors share it.

    Where processes share it, as after a fork (data loaders), it is that of the lowest number: the parent, as a rule.
    """

    pid: int
    key: str  # the same in every reading, as long as the user lives
    memory: dict[str, int] = field(default_factory=dict)  # bytes resident by region
    busy: dict[str, float] = field(default_factory=dict)  # per engine: ns, or cycles
    total: dict[str, float] = field(default_factory=dict)  # per engine: cycles that passed
    capacity: dict[str, float] = field(default_factory=dict)  # engines of that kind, 1 where not told


def clients(root: Path, slot: str, among: Iterable[int] | None = None) -> tuple[list[Client], bool]:
    """Return the users of the card in `slot`, and whether all processes that were looked at could be read.

    `among` limits the search to some processes, which makes it cheap.
    """
    found: dict[str, Client] = {}
    proc, complete = root / "proc", True
    pids = [int(name) for name in names(proc) if name.isdigit()] if among is None else among
    for pid in sorted(pids):
        folder = proc / str(pid) / "fd"
        try:
            descriptors = os.listdir(folder)  # noqa: PTH208, much cheaper than making paths of them
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                # A container may have given the device another name below /dev than dri/renderD128.
                target = os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115
                if not target.startswith("/dev/") or target.startswith(NO_DEVICES):
                    continue
                text = read_text(proc / str(pid) / "fdinfo" / descriptor) or ""
                fields = dict(re.findall(r"^([a-z][\w-]*):\s*(.*?)\s*$", text, re.MULTILINE))
                if fields.get("drm-pdev") == slot:
                    number = fields.get("drm-client-id")
                    key = f"client {number}" if number else f"{pid} {descriptor}"
                    found.setdefault(key, parse_client(pid, key, fields))
    return list(found.values()), complete


def names(folder: Path) -> list[str]:
    """Return the names in a folder, none if it cannot be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


def parse_client(pid: int, key: str, fields: dict[str, str]) -> Client:
    """Return one client from its fdinfo keys. `drm-memory-` is the older name of `drm-resident-`."""
    client = Client(pid, key)
    for field_name, text in fields.items():
        words = text.split()
        if not words or not words[0].isdigit():
            continue
        amount = int(words[0])
        kind, _, name = field_name.removeprefix("drm-").partition("-")
        if kind in ("memory", "resident") and name:
            size = amount * UNITS.get(words[1] if len(words) > 1 else "", 1)
            client.memory[name] = max(size, client.memory.get(name, 0)) if kind == "memory" else size
        elif kind == "engine" and name.startswith("capacity-"):
            client.capacity[name.removeprefix("capacity-")] = amount
        elif kind in ("engine", "cycles"):
            client.busy[name] = amount
        elif kind == "total" and name.startswith("cycles-"):
            client.total[name.removeprefix("cycles-")] = amount
    return client


def pci_name(root: Path, vendor: str, device_id: str) -> str | None:
    """Return the marketing name of a device from the system's list of PCI numbers, where it has one."""
    for path in ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"):
        text = read_text(root / path) or ""
        block = re.search(rf"^{vendor[2:]}  .*\n((?:[\t#].*\n|\n)*)", text, re.MULTILINE)
        line = re.search(rf"^\t{device_id[2:]}  (.*)$", block[1], re.MULTILINE) if block else None
        if line:
            bracket = re.search(r"\[(.*)\]", line[1])  # "Navi 31 [Radeon RX 7900 XTX]"
            return bracket[1] if bracket else line[1]
    return None
