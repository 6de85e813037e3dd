"""Draw a recording of the monitor: memory above, load and power below, phases shaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..monitor.recording import Record, number
from ..storage.terminal import visible

PHASE_COLOURS = {
    "startup": "#bbbbbb",
    "train": "#4477aa",
    "ramp": "#ee6677",
    "finetune": "#228833",
    "evaluate": "#ccbb44",
    "done": "#bbbbbb",
}
MEMORY = {
    "process_mib": "process on the GPU",
    "device_used_mib": "whole device",
    "host_rss_mib": "host, process tree",
    "host_used_mib": "host, machine",
}

KINDS = (".png", ".pdf", ".svg")


def spans(records: Sequence[Record]) -> list[tuple[str, float, float]]:
    """Return (phase, from, to) of each stretch of samples in one phase; times as recorded."""
    found: list[tuple[str, float, float]] = []
    for record in records:
        if found:  # a stretch lasts until the next sample, whatever its phase
            found[-1] = (*found[-1][:2], record["time"])
        phase = record.get("phase", "")
        if not found or found[-1][0] != phase:
            found.append((phase, record["time"], record["time"]))
    return [span for span in found if span[0]]


def draw(records: Sequence[Record], picture: Path, title: str) -> None:
    """Write the picture (PNG, PDF or SVG by its name). Moments without a reading are gaps in the line."""
    if picture.suffix.lower() not in KINDS:
        raise OSError(f"{picture}: the name of a picture ends with {', '.join(KINDS)}")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # A "$" in the name of a file or a phase is no formula.
    with plt.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is drawn as a box
        _draw(plt, records, picture, visible(title))


def _draw(plt: Any, records: Sequence[Record], picture: Path, title: str) -> None:
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.5), height_ratios=(3, 2))
    start = records[0]["time"]
    gpus = list(dict.fromkeys(record.get("gpu") for record in records))
    for gpu in gpus:
        samples = [record for record in records if record.get("gpu") == gpu]
        suffix = f" (GPU {gpu})" if len(gpus) > 1 else ""
        for measure, label in MEMORY.items():
            curve(above, samples, start, measure, label + suffix)
        curve(below, samples, start, "gpu_utilization", "load, %" + suffix)
        curve(below, samples, start, "process_utilization", "load of the process, %" + suffix)
        curve(below, samples, start, "power_w", "power, W" + suffix)
    named: set[str] = set()
    for phase, begin, end in spans([r for r in records if r.get("gpu") == gpus[0]]):
        colour = PHASE_COLOURS.get(phase, "#dddddd")
        above.axvspan(begin - start, end - start, color=colour, alpha=0.13, lw=0)
        if phase not in named:  # one entry of the legend for each phase
            above.fill_between([], [], color=colour, alpha=0.3, lw=0, label=visible(str(phase)))
        below.axvspan(begin - start, end - start, color=colour, alpha=0.13, lw=0)
        named.add(phase)
    above.set(title=title, ylabel="MiB")
    above.set_ylim(bottom=0)
    below.set(xlabel="seconds", ylabel="%  |  W")
    below.set_ylim(bottom=0)
    if not below.lines:
        below.remove()
        above.set_xlabel("seconds")
        above.tick_params(labelbottom=True)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    figure.savefig(picture, dpi=150, bbox_inches="tight")
    plt.close(figure)


def curve(axes: Any, records: Sequence[Record], start: float, measure: str, label: str) -> None:
    """Draw one line; nothing when no sample has the reading."""
    values = [number(record.get(measure)) for record in records]
    if any(value is not None for value in values):
        times = [record["time"] - start for record in records]
        axes.plot(times, [float("nan") if v is None else v for v in values], label=label, lw=1.4)
