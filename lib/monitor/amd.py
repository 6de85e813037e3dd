"""Read AMD devices from the files of the amdgpu driver; no ROCm needed.

Memory: `mem_info_vram_*`, and on APUs, which compute in the host's memory, `mem_info_gtt_*` with it. Processes: DRM
fdinfo for graphics, and for compute (ROCm) the driver's own count below /sys/class/kfd. A process that does both shows
its memory in both: the larger counts.

A compute card that is cut into partitions (MI300X in CPX mode) is one PCI device, and one node of kfd for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .devices import MIB
from .drm import Card, cards, clients, names, pci_name
from .host import read_number, read_text

VENDOR = "0x1002"
KFD = "sys/class/kfd/kfd"


@dataclass(frozen=True)
class Node:
    """What the compute side of the driver calls a device, or a partition of it."""

    folder: Path
    gpu_id: int
    partition: int
    unique_id: int


class AmdGpu:
    """One card run by the amdgpu driver, or one partition of it."""

    vendor = "amd"
    part: int | None = None  # tools and variables of ROCm count partitions as devices of their own
    differs = False

    def __init__(self, root: Path, card: Card, index: int, node: Node | None = None, partitions: int = 1) -> None:
        self.root, self.card, self.index, self.node = root, card, index, node
        self.whole = partitions == 1
        product = (read_text(card.device / "product_name") or "").strip()
        name = product or pci_name(root, VENDOR, card.device_id) or f"AMD GPU {card.device_id}"
        self.name = name if self.whole or node is None else f"{name} partition {node.partition}"
        unique = (read_text(card.device / "unique_id") or "").strip()
        if node and not self.whole:
            unique = f"{node.unique_id:016x}" if node.unique_id else ""
        self.ids = (card.slot, *((f"GPU-{unique}", unique) if unique else ()))
        self.pools = ("vram", "gtt") if is_apu(card) else ("vram",)

    def read(self, among: Iterable[int] | None = None) -> dict[str, float]:
        del among  # the driver counts for the whole card
        if self.card.asleep():
            return {}
        device, sensor = self.card.device, self.card.sensor
        power = sensor("power1_average")
        duty = sensor("pwm1")
        readings = {
            "power_w": scaled(power if power is not None else sensor("power1_input"), 1e-6),
            "power_limit_w": scaled(sensor("power1_cap"), 1e-6),
            "temperature_c": self._temperature(),
            "fan_percent": scaled(duty, 100 / (sensor("pwm1_max") or 255)),
            "fan_rpm": sensor("fan1_input"),
            "clock_mhz": scaled(sensor("freq1_input"), 1e-6),
            "memory_clock_mhz": scaled(sensor("freq2_input"), 1e-6),
        }
        if self.whole:
            readings |= {
                "gpu_utilization": read_number(device / "gpu_busy_percent"),
                "memory_utilization": read_number(device / "mem_busy_percent"),
                "device_used_mib": scaled(self._pooled("used"), 1 / MIB),
                "device_total_mib": scaled(self._pooled("total"), 1 / MIB),
            }
        elif self.node:  # the driver tells the load, and what is used, of the whole card alone
            readings["device_total_mib"] = scaled(bank_size(self.node), 1 / MIB)
        return {key: value for key, value in readings.items() if value is not None}

    def processes(self, among: Iterable[int] | None = None) -> dict[int, float | None]:
        found: dict[int, float | None] = {}
        graphics: dict[int, int] = {}
        for client in clients(self.root, self.card.slot, among)[0] if self.whole else []:
            sizes = [client.memory[pool] for pool in self.pools if pool in client.memory]
            if sizes:
                graphics[client.pid] = graphics.get(client.pid, 0) + sum(sizes)
            else:
                found[client.pid] = None
        for pid, size in graphics.items():
            found[pid] = size / MIB
        for pid, computing in self._computing().items():
            found[pid] = max(computing / MIB, found.get(pid) or 0.0)
        return found

    def _computing(self) -> dict[int, float]:
        """Return the bytes of device memory of each process that computes here."""
        if self.node is None:
            return {}
        folder = self.root / KFD / "proc"
        sizes = {name: read_number(folder / name / f"vram_{self.node.gpu_id}") for name in names(folder)}
        return {int(name): size for name, size in sizes.items() if name.isdigit() and size}

    def _pooled(self, figure: str) -> float | None:
        """Return bytes `used` or `total` of the memory that computations can have; None where a pool is not known."""
        sizes = [read_number(self.card.device / f"mem_info_{pool}_{figure}") for pool in self.pools]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def _temperature(self) -> float | None:
        """Return the edge temperature, °C, or the junction's on cards that have no edge sensor."""
        by_label = {self.card.label(f"temp{n}_label") or "": f"temp{n}_input" for n in (3, 2, 1)}
        name = by_label.get("edge") or by_label.get("junction") or "temp1_input"
        return scaled(self.card.sensor(name), 1e-3)


def is_apu(card: Card) -> bool:
    """Return whether the device shares the host's memory: only APUs have a sensor of the northbridge's voltage."""
    return card.label("in1_label") == "vddnb"


def bank_size(node: Node) -> float | None:
    """Return the bytes of memory that a partition has."""
    found = re.search(r"^size_in_bytes (\d+)$", read_text(node.folder / "mem_banks/0/properties") or "", re.MULTILINE)
    return float(found[1]) if found else None


def nodes_of(root: Path, card: Card) -> list[Node]:
    """Return the nodes of kfd that belong to a card, in the order of its partitions: one where it is whole.

    A node names the render node, which it shares with the card, and the place on the bus. The latter holds the number
    of the partition too: in its upper four bits, or with older kernels in those of the PCI function, which is 0.
    """
    minors = {name.removeprefix("renderD") for name in names(card.device / "drm")}
    found = []
    for name in names(root / KFD / "topology/nodes"):
        folder = root / KFD / "topology/nodes" / name
        lines = (read_text(folder / "properties") or "").splitlines()
        properties = dict(line.partition(" ")[::2] for line in lines)
        place, domain = number(properties.get("location_id")), number(properties.get("domain"))
        slot = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.0"
        gpu_id = read_number(folder / "gpu_id")
        if gpu_id and (properties.get("drm_render_minor") in minors or (place and slot == card.slot)):
            partition = place >> 28 & 0xF or place & 0x7
            found.append(Node(folder, int(gpu_id), partition, number(properties.get("unique_id"))))
    return sorted(found, key=lambda node: node.partition)


def number(text: str | None) -> int:
    """Return a whole number, 0 where there is none."""
    return int(text) if text and text.isdigit() else 0


def scaled(value: float | None, factor: float) -> float | None:
    """Return the value in other units; None stays None."""
    return None if value is None else value * factor


def find(root: Path = Path("/")) -> list[AmdGpu]:
    """Return every AMD card that the amdgpu driver runs; in place of one that is cut into partitions, these."""
    found: list[AmdGpu] = []
    for card in cards(root, VENDOR):
        if card.driver in ("amdgpu", ""):
            nodes: list[Node | None] = [*nodes_of(root, card)]
            for node in nodes or [None]:
                found.append(AmdGpu(root, card, len(found), node, max(1, len(nodes))))
    return found
