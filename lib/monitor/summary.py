"""Summarise recordings: mean, peak, percentiles and duration of every reading, by phase; compare two of them.

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
    """Return a percentile of `ordered` (ascending, not empty), linear between the two nearest values."""
    place = (len(ordered) - 1) * percent / 100.0
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Return mean, peak, median and 95th percentile of the samples that have the reading."""
    ordered = sorted(values)
    return {
        "samples": len(ordered),
        "mean": math.fsum(ordered) / len(ordered),
        "p50": percentile(ordered, 50),
        "p95": percentile(ordered, 95),
        "peak": ordered[-1],
    }


def of_training(records: Sequence[Record]) -> list[Record]:
    """Return the samples in which weights change; all of them where none is tagged with a phase."""
    tagged = any(record.get("phase") is not None for record in records)
    return [record for record in records if not tagged or record.get("phase") in TRAINING]


def part(records: Sequence[Record]) -> dict[str, Any]:
    """Return a summary of samples, each with the `seconds` it stands for. A reading that none has is left out."""
    seconds = math.fsum(record["seconds"] for record in records)
    summary: dict[str, Any] = {"samples": len(records), "seconds": round(seconds, 3)}
    for name in MEASURES:
        values = [value for record in records if (value := number(record.get(name))) is not None]
        if values:
            summary[name] = statistics(values)
    return summary


def summarize(records: Sequence[Record], dropped: int = 0) -> dict[str, Any]:
    """Return summaries by device: of all samples, of training, of each phase. Times in seconds, memory in MiB."""
    devices: dict[str, Any] = {}
    for gpu in dict.fromkeys(record.get("gpu") for record in records):
        samples = [record for record in records if record.get("gpu") == gpu]
        samples = [record | {"seconds": length} for record, length in zip(samples, durations(samples), strict=True)]
        summary = {"all": part(samples)}
        if training := of_training(samples):
            summary["training"] = part(training)
        for phase in dict.fromkeys(record["phase"] for record in samples if record.get("phase") is not None):
            summary[phase] = part([record for record in samples if record.get("phase") == phase])
        devices["host" if gpu is None else f"gpu {gpu}"] = summary
    return {"devices": devices, "torn_lines": dropped}


def durations(records: Sequence[Record]) -> list[float]:
    """Return the seconds for which each sample stands: until the next one.

    The last stands for the median, and so does one before a pause (more than ten times the median), as between a run's
    interruption and its resumption.
    """
    gaps = [b["time"] - a["time"] for a, b in pairwise(records)]
    usual = percentile(sorted(gaps), 50) if gaps else 0.0
    return [*(gap if gap <= 10 * usual else usual for gap in gaps), usual] if records else []


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Return training figures of two summaries side by side, device by device in order; only what both have."""
    rows = []
    pairs = zip(before["devices"].items(), after["devices"].items(), strict=False)
    for (device, old), (_, new) in pairs:
        old, new = old.get("training", {}), new.get("training", {})
        both = [measure for measure in MEASURES if measure in old and measure in new]
        rows += [
            row(device, measure, figure, old[measure][figure], new[measure][figure])
            for measure in both
            for figure in ("mean", "peak")
        ]
        if "seconds" in old and "seconds" in new:
            rows.append(row(device, "seconds", "total", old["seconds"], new["seconds"]))
    return rows


def row(device: str, measure: str, figure: str, a: float, b: float) -> dict[str, Any]:
    """Return one line of a comparison; the ratio is left out where it would be infinite."""
    found = {"device": device, "measure": measure, "figure": figure, "a": a, "b": b, "difference": b - a}
    return found | ({"ratio": b / a} if a else {})
