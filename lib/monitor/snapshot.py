"""Collect everything that can be seen at one moment, for the screen and for --json."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from .devices import Gpu, label
from .host import Host


def snapshot(gpus: list[Gpu], host: Host, pid: int | None = None) -> dict[str, Any]:
    """Return time, host memory, every device with its readings and processes; of one process tree if `pid` is given.

    Processes are sorted by their memory, largest first; `mib` is absent where it is not known.
    """
    tree = None if pid is None else set(host.tree(pid))
    seen: dict[str, Any] = {"time": round(time.time(), 3), "host": host.memory_mib(), "gpus": []}
    if tree is not None:
        rss = host.tree_rss_mib(pid) if pid is not None else None
        seen["host"] |= {"host_rss_mib": rss} if rss is not None else {}
    for gpu in gpus:
        device: dict[str, Any] = {"gpu": label(gpu, gpus), "name": gpu.name, "vendor": gpu.vendor}
        device["ids"] = list(gpu.ids)
        with contextlib.suppress(Exception):  # a dying driver costs its own readings, nothing else
            device |= gpu.read(tree)
        device["processes"] = []
        with contextlib.suppress(Exception):
            device["processes"] = users(gpu, host, tree)
        seen["gpus"].append(device)
    if not gpus:
        seen["processes"] = residents(host, tree)
    return seen


def users(gpu: Gpu, host: Host, tree: set[int] | None) -> list[dict[str, Any]]:
    """Return the processes on a device. Those of the machine that a container cannot see have no name."""
    rows = []
    for pid, mib in gpu.processes(tree).items():
        if tree is None or pid in tree:
            row = {"pid": pid, "name": host.name(pid), "mib": mib, "host_rss_mib": host.rss_mib(pid)}
            rows.append({key: value for key, value in row.items() if value is not None})
    return sorted(rows, key=lambda row: -row.get("mib", 0.0))


def residents(host: Host, tree: set[int] | None, most: int = 10) -> list[dict[str, Any]]:
    """Return the processes with the most host memory, of the tree or of the machine."""
    pids = tree if tree is not None else everyone(host.proc)
    rows = [{"pid": pid, "host_rss_mib": rss} for pid in pids if (rss := host.rss_mib(pid)) is not None]
    rows = sorted(rows, key=lambda row: -row["host_rss_mib"])[:most]
    return [row | ({"name": name} if (name := host.name(int(row["pid"]))) else {}) for row in rows]


def everyone(proc: Path) -> list[int]:
    """Return the numbers of all processes that can be seen."""
    return [int(path.name) for path in proc.iterdir() if path.name.isdigit()] if proc.is_dir() else []
