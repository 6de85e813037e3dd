"""What a recording says: mean, peak, percentiles and duration of every reading, by phase, and two beside each other.

The figures of `training` are those of the phases in which weights change, so that start-up and evaluation do not
colour them. A recording without phases counts as training from end to end. What an evaluation leaves behind in
the allocator's cache is memory of the process still, and counts while training goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .recording import Record, number

#: The phases in which weights change.
TRAINING = ("train", "ramp", "finetune")

#: Readings worth a line, in the order of the tables, with what the tables call them.
MEASURES = {
    "process_mib": "process MiB",
    "device_used_mib": "device MiB",
    "host_rss_mib": "host tree MiB",
    "host_used_mib": "host MiB",
    "gpu_utilization": "load %",
    "process_utilization": "process load %",
    "memory_utilization": "memory load %",
    "power_w": "power W",
    "temperature_c": "temperature °C",
    "clock_mhz": "clock MHz",
}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between the two nearest of `ordered` (ascending, not empty)."""
    place = (len(ordered) - 1) * percent / 100.0
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean, peak, median and 95th percentile of the samples that have the reading."""
    ordered = sorted(values)
    return {
        "samples": len(ordered),
        "mean": math.fsum(ordered) / len(ordered),
        "p50": percentile(ordered, 50),
        "p95": percentile(ordered, 95),
        "peak": ordered[-1],
    }


def of_training(records: Sequence[Record]) -> list[Record]:
    """The samples in which weights change; all of them where none is tagged with a phase."""
    tagged = any(record.get("phase") is not None for record in records)
    return [record for record in records if not tagged or record.get("phase") in TRAINING]


def part(records: Sequence[Record]) -> dict[str, Any]:
    """Summary of some samples, each with the `seconds` it stands for. A reading that none of them has is left out."""
    seconds = math.fsum(record["seconds"] for record in records)
    found: dict[str, Any] = {"samples": len(records), "seconds": round(seconds, 3)}
    for name in MEASURES:
        values = [value for record in records if (value := number(record.get(name))) is not None]
        if values:
            found[name] = statistics(values)
    return found


def summarize(records: Sequence[Record], dropped: int = 0) -> dict[str, Any]:
    """By device: all samples, those of training, and each phase. Times in seconds, memory in MiB."""
    devices: dict[str, Any] = {}
    for gpu in dict.fromkeys(record.get("gpu") for record in records):
        mine = [record for record in records if record.get("gpu") == gpu]
        mine = [record | {"seconds": length} for record, length in zip(mine, durations(mine), strict=True)]
        found = {"all": part(mine)}
        if training := of_training(mine):
            found["training"] = part(training)
        for phase in dict.fromkeys(record["phase"] for record in mine if record.get("phase") is not None):
            found[phase] = part([record for record in mine if record.get("phase") == phase])
        devices["host" if gpu is None else f"gpu {gpu}"] = found
    return {"devices": devices, "torn_lines": dropped}


def durations(records: Sequence[Record]) -> list[float]:
    """Seconds for which each sample stands: until the next one. The last stands for as long as is usual, and so
    does one before a pause (more than ten times the usual), as between a run's interruption and its resumption."""
    gaps = [b["time"] - a["time"] for a, b in pairwise(records)]
    usual = percentile(sorted(gaps), 50) if gaps else 0.0
    return [*(gap if gap <= 10 * usual else usual for gap in gaps), usual] if records else []


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Training figures of two summaries side by side, device by device in order; only what both have."""
    rows = []
    pairs = zip(before["devices"].items(), after["devices"].items(), strict=False)
    for (name, one), (_, other) in pairs:
        one, other = one.get("training", {}), other.get("training", {})
        for measure in MEASURES:
            if measure in one and measure in other:
                for figure in ("mean", "peak"):
                    a, b = one[measure][figure], other[measure][figure]
                    row = {"device": name, "measure": measure, "figure": figure, "a": a, "b": b}
                    rows.append(row | {"difference": b - a} | ({"ratio": b / a} if a else {}))
        if "seconds" in one and "seconds" in other:
            a, b = one["seconds"], other["seconds"]
            row = {"device": name, "measure": "seconds", "figure": "total", "a": a, "b": b}
            rows.append(row | {"difference": b - a} | ({"ratio": b / a} if a else {}))
    return rows
