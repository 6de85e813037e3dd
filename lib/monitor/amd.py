"""Read AMD devices from the files of the amdgpu driver; no ROCm needed.

Memory: `mem_info_vram_*`. Processes: DRM fdinfo for graphics, and for compute (ROCm) the driver's own
count below /sys/class/kfd. A process that does both shows its memory in both: the larger counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .devices import MIB
from .drm import Card, cards, clients, names, pci_name
from .host import read_number, read_text

VENDOR = "0x1002"


class AmdGpu:
    """One card run by the amdgpu driver."""

    vendor = "amd"
    part: int | None = None
    differs = False

    def __init__(self, root: Path, card: Card, index: int) -> None:
        self.root, self.card, self.index = root, card, index
        product = (read_text(card.device / "product_name") or "").strip()
        self.name = product or pci_name(root, VENDOR, card.device_id) or f"AMD GPU {card.device_id}"
        unique = (read_text(card.device / "unique_id") or "").strip()
        self.ids = (card.slot, *((f"GPU-{unique}", unique) if unique else ()))
        self.kfd_id = self._kfd_id()

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        del among  # the driver counts for the whole card
        device, sensor = self.card.device, self.card.sensor
        power = sensor("power1_average")
        duty = sensor("pwm1")
        readings = {
            "gpu_utilization": read_number(device / "gpu_busy_percent"),
            "memory_utilization": read_number(device / "mem_busy_percent"),
            "device_used_mib": scaled(read_number(device / "mem_info_vram_used"), 1 / MIB),
            "device_total_mib": scaled(read_number(device / "mem_info_vram_total"), 1 / MIB),
            "power_w": scaled(power if power is not None else sensor("power1_input"), 1e-6),
            "power_limit_w": scaled(sensor("power1_cap"), 1e-6),
            "temperature_c": self._temperature(),
            "fan_percent": scaled(duty, 100 / (sensor("pwm1_max") or 255)),
            "fan_rpm": sensor("fan1_input"),
            "clock_mhz": scaled(sensor("freq1_input"), 1e-6),
            "memory_clock_mhz": scaled(sensor("freq2_input"), 1e-6),
        }
        return {key: value for key, value in readings.items() if value is not None}

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        found: dict[int, float | None] = {}
        graphics: dict[int, int] = {}
        for client in clients(self.root, self.card.slot, among)[0]:
            if "vram" in client.memory:
                graphics[client.pid] = graphics.get(client.pid, 0) + client.memory["vram"]
            else:
                found[client.pid] = None
        for pid, size in graphics.items():
            found[pid] = size / MIB
        folder = self.root / "sys/class/kfd/kfd/proc"
        for name in names(folder) if self.kfd_id else []:
            size_now = read_number(folder / name / f"vram_{self.kfd_id}")
            if name.isdigit() and size_now:
                found[int(name)] = max(size_now / MIB, found.get(int(name)) or 0.0)
        return found

    def _temperature(self) -> float | None:
        """Return the edge temperature, °C, or the junction's on cards that have no edge sensor."""
        by_label = {self.card.label(f"temp{n}_label") or "": f"temp{n}_input" for n in (3, 2, 1)}
        name = by_label.get("edge") or by_label.get("junction") or "temp1_input"
        return scaled(self.card.sensor(name), 1e-3)

    def _kfd_id(self) -> int | None:
        """Return the number by which the compute side of the driver knows this card: they share a render node."""
        minors = {name.removeprefix("renderD") for name in names(self.card.device / "drm")}
        nodes = self.root / "sys/class/kfd/kfd/topology/nodes"
        for node in names(nodes):
            lines = (read_text(nodes / node / "properties") or "").splitlines()
            if dict(line.partition(" ")[::2] for line in lines).get("drm_render_minor") in minors:
                number = read_number(nodes / node / "gpu_id")
                return int(number) if number else None
        return None


def scaled(value: float | None, factor: float) -> float | None:
    """Return the value in other units; None stays None."""
    return None if value is None else value * factor


def find(root: Path = Path("/")) -> list[AmdGpu]:
    """Return every AMD card that the amdgpu driver runs."""
    found = [card for card in cards(root, VENDOR) if card.driver in ("amdgpu", "")]
    return [AmdGpu(root, card, index) for index, card in enumerate(found)]
