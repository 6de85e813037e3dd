"""Read Intel devices, run by i915 or xe, from sysfs and DRM fdinfo.

Intel's drivers keep no count of the whole device's load for everyone to read. How busy it is follows from
what its users' files say between two readings. It is given for the device only where all users can be seen,
which as a rule means root.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from .amd import scaled
from .devices import MIB
from .drm import Card, Client, cards, clients, pci_name
from .host import read_number

VENDOR = "0x8086"

# Regions of memory that lie on the card: i915 says local0, xe says vram0. All else is the host's.
LOCAL = ("local", "vram")


# Energy counters of hwmon: of the card, and of the package on cards that count no more than that.
ENERGIES = ("energy1_input", "energy2_input")

# Power limits of hwmon, sustained before burst, of the card before those of the package; 0 says that there is none.
LIMITS = ("power1_max", "power1_cap", "power2_max", "power2_cap")


class IntelGpu:
    """One card run by i915 or xe."""

    vendor = "intel"
    part: int | None = None
    differs = True  # load, and power, which is energy over time

    def __init__(self, root: Path, card: Card, index: int) -> None:
        self.root, self.card, self.index = root, card, index
        self.name = pci_name(root, VENDOR, card.device_id) or f"Intel GPU {card.device_id}"
        self.ids: tuple[str, ...] = (card.slot,)
        self.total_mib = self._total_mib()
        self.last_energy: tuple[float, str, float] | None = None
        self.last_load: tuple[float, dict[str, tuple[float, float]]] | None = None

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        if self.card.asleep():
            self.last_energy = self.last_load = None
            return {} if self.total_mib is None else {"device_total_mib": self.total_mib}
        sensor = self.card.sensor
        free = scaled(read_number(self.card.folder / "lmem_avail_bytes"), 1 / MIB)
        users, complete = clients(self.root, self.card.slot, among)
        load = self._load(users)
        readings = {
            ("gpu_utilization" if among is None else "process_utilization"): load if complete else None,
            "device_used_mib": None if self.total_mib is None or free is None else self.total_mib - free,
            "device_total_mib": self.total_mib,
            "power_w": self._power(),
            "power_limit_w": scaled(first(*(sensor(name) or None for name in LIMITS)), 1e-6),
            "temperature_c": scaled(first(sensor("temp2_input"), sensor("temp1_input")), 1e-3),  # xe: 2 is the chip
            "fan_rpm": sensor("fan1_input"),
            "clock_mhz": self._clock(),
        }
        return {key: value for key, value in readings.items() if value is not None}

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        """Return MiB on the card by process; on cards without memory, what their users hold of the host's."""
        found: dict[int, float | None] = {}
        for client in clients(self.root, self.card.slot, among)[0]:
            local = [size for region, size in client.memory.items() if region.startswith(LOCAL)]
            sizes = local or list(client.memory.values())
            found[client.pid] = (found.get(client.pid) or 0.0) + sum(sizes) / MIB if sizes else None
        return found

    def _total_mib(self) -> float | None:
        tiles = list(self.card.device.glob("tile*/physical_vram_size_bytes"))
        tiles = tiles or list(self.card.device.glob("tile*/memory/physical_vram_size_bytes"))
        sizes = [read_number(path) for path in tiles] or [read_number(self.card.folder / "lmem_total_bytes")]
        known = [size for size in sizes if size]
        return sum(known) / MIB if known and len(known) == len(sizes) else None

    def _power(self) -> float | None:
        """Return the mean power since the last reading, W, from the energy counter; None at first and when it wraps."""
        # A counter at 0 does not count: xe shows that of the card where the card has none.
        counters = ((name, self.card.sensor(name)) for name in ENERGIES)
        name, energy = next(((name, value) for name, value in counters if value), ("", None))
        now, last = time.monotonic(), self.last_energy
        self.last_energy = None if energy is None else (now, name, energy)
        if energy is None or last is None or last[1] != name or now <= last[0] or energy < last[2]:
            return None
        return (energy - last[2]) * 1e-6 / (now - last[0])

    def _load(self, users: list[Client]) -> float | None:
        """Return for how many percent of the time since the last reading the busiest kind of engine worked for them."""
        now, last = time.monotonic(), self.last_load
        marks: dict[str, tuple[float, float]] = {}
        for client in users:
            for engine, busy in client.busy.items():
                passed = client.total.get(engine, now * 1e9) * client.capacity.get(engine, 1.0)
                marks[f"{client.key} {engine}"] = (busy, passed)
        self.last_load = (now, marks)
        if last is None or (users and not marks):
            return None
        share: dict[str, float] = defaultdict(float)
        for key, (busy, passed) in marks.items():
            before = last[1].get(key)
            if before is not None and passed > before[1]:
                share[key.split()[-1]] += max(0.0, busy - before[0]) / (passed - before[1])
        return min(100.0, 100.0 * max(share.values(), default=0.0))

    def _clock(self) -> float | None:
        readings = [read_number(path) for path in self.card.device.glob("tile*/gt*/freq0/act_freq")]  # xe
        readings += [read_number(path) for path in self.card.folder.glob("gt/gt*/rps_act_freq_mhz")]  # i915
        readings.append(read_number(self.card.folder / "gt_act_freq_mhz"))
        return max((value for value in readings if value is not None), default=None)


def first(*values: float | None) -> float | None:
    """Return the first value that is known."""
    return next((value for value in values if value is not None), None)


def find(root: Path = Path("/")) -> list[IntelGpu]:
    """Return every Intel card that i915 or xe runs."""
    found = [card for card in cards(root, VENDOR) if card.driver in ("i915", "xe")]
    return [IntelGpu(root, card, index) for index, card in enumerate(found)]
