"""Memory of the configurations: side by side, and over time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from ..results.display_names import MIB
from ..results.records import Results, RunRecord, number
from . import measures, run_selection, style
from .dot_plot import dots, rows_of
from .label_placement import name_points
from .style import Picture

PHASES = {"startup": "start", "train": "train", "ramp": "ramp", "finetune": "fine-tune"}
PHASE_COLOURS = {"startup": "#f0f0f0", "train": "#ffffff", "ramp": "#ffe3c9", "finetune": "#e3eefb"}


def memory_comparison(results: Results) -> Picture:
    """Draw the peak of each configuration as the tables show it, and beside it what the monitor sampled."""
    name = "gpu_memory_comparison"
    results, missing = run_selection.with_memory_variants(results)
    groups = [group for group in results.groups if group.complete_runs]
    if not groups:
        return Picture(name, None, ["No run is done yet: there is no memory to compare.", *missing])
    first, second = measures.peak(results), measures.sampled(results)
    if second is None:
        missing.append("Memory was not sampled in all of these runs.")
    title = f"Peak memory of training: {first.name}" + (f"; {second.name}" if second else "")
    unit, scale = style.bytes_unit(v.mean for g in groups if (v := first.peak(g)))
    size = (6.3 if second else 9.0, 1.4 + 0.27 * len(rows_of(groups)))
    legend = style.legend_entries(groups, results, points=True)
    figure, axes = style.new_figure(title, results, (1, 2 if second else 1), size, legend, missing, sharey=True)
    dots(axes[0], groups, results, first.peak, f"peak memory ({unit}), {first.axis}", scale)
    if second:
        dots(axes[1], groups, results, second.peak, f"peak memory (MiB), {second.axis}", MIB)
    return Picture(name, figure, missing)


def phases(run: RunRecord) -> list[tuple[str, float, float]]:
    """Return the stretches of a run as (phase, from, to) in seconds, by its own clock.

    A pruned run's ramp begins and ends at fractions of its planned epochs; when each epoch ended, and how long its
    training took, stands in its metrics. Nothing where one of these is not recorded.
    """
    start, end = number(run.config.get("pruning_start")), number(run.config.get("pruning_end"))
    planned = number(run.extended_from_epochs) or number(run.config.get("epochs"))
    spans = _training_spans(run)
    if run.method == "none" or start is None or end is None or not planned or not spans:
        return []

    def time_at(epochs: float) -> float:
        begun, ended = spans[min(int(epochs), len(spans) - 1)]
        return begun + (ended - begun) * min(epochs - min(int(epochs), len(spans) - 1), 1.0)

    bounds = [0.0, spans[0][0], time_at(start * planned), time_at(end * planned), spans[-1][1]]
    return [(phase, *span) for phase, span in zip(PHASES, itertools.pairwise(bounds), strict=True) if span[1] > span[0]]


def _training_spans(run: RunRecord) -> list[tuple[float, float]]:
    """When the training of each epoch began and ended, in seconds; evaluation comes after it. Empty if not known."""
    spans: list[tuple[float, float]] = []
    over = 0.0  # when the epoch before, with its evaluation, was over
    for row in run.metrics:
        time, seconds = number(row.get("time")), number(row.get("epoch_seconds"))
        if time is None or seconds is None:
            return []
        evaluation = number(row.get("evaluation_seconds"))
        begun = time - seconds - evaluation if evaluation is not None else over or time - seconds
        spans.append((max(begun, over), max(begun, over) + seconds))
        over = time
    return spans


def _shade(ax: Axes, run: RunRecord, named: bool) -> None:
    for phase, start, end in phases(run):
        ax.axvspan(start, end, color=PHASE_COLOURS[phase], zorder=0, lw=0)
        if phase != "train":
            ax.axvline(start, color="#8b949e", lw=0.7, zorder=1)
        share = (end - start) / max(ax.get_xlim()[1] - ax.get_xlim()[0], 1e-9)
        if named and share > 0.05:
            ax.annotate(
                PHASES[phase], ((start + end) / 2, 1.0), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", fontsize=8.5, color=style.FAINT,
            )  # fmt: skip


def memory_timeline(results: Results) -> Picture:
    """Draw sampled memory over time, and under it optimizer and pruning state at the end of each epoch."""
    name = "gpu_memory_timeline"
    results, missing = run_selection.with_memory_variants(results)
    groups = run_selection.representative(results)
    missing = [*run_selection.selection_note(groups, results), *missing]
    measure = measures.sampled(results)
    if measure is None:
        missing.append("No memory was sampled: the upper panel is left out.")
    elif any(group.first.variant for group in groups):
        missing.append("Samples over time are kept of plain runs only.")
    with_states = any("optimizer_state" in row for g in groups for run in g.runs for row in run.memory_rows)
    if not with_states:
        missing.append("No bytes by category were recorded: the lower panel is left out.")
    count = (measure is not None) + with_states
    if not count:
        return Picture(name, None, missing)
    shaded = next((run for g in reversed(groups) for run in g.runs[:1] if phases(run)), None)
    if shaded is None:
        missing.append("No pruned run has recorded when its ramp was: none is marked.")
    else:
        label = next(g.label for g in groups if shaded in g.runs)
        missing.insert(0, f"Shaded: the phases of {label}; each run is its first seed.")
    parts = ([measure.name] if measure else []) + (["state, counted from the tensors"] if with_states else [])
    title = "Memory over time: " + "; ".join(parts)
    legend = style.legend_entries(groups, results)
    figure, axes = style.new_figure(title, results, (count, 1), (10.0, 2.9), legend, missing, sharex=True)
    for group in groups:
        run, line = group.runs[0], style.line_style(group, results)
        if measure:
            points = [(number(r.get("time")), number(r.get(measure.key))) for r in run.samples]
            axes[0].plot(*_xy(points), **line)
        if with_states:
            axes[-1].plot(*_states(run), **({"marker": ".", "markersize": 4} | line), drawstyle="steps-post")
    if measure:
        axes[0].set_ylabel(f"memory (MiB)\n{measure.axis}")
        low, high = axes[0].get_ylim()
        if high - low < 0.05 * high:  # jitter of a fraction of a percent is no curve
            axes[0].set_ylim((low + high) / 2 - 0.025 * high, (low + high) / 2 + 0.025 * high)
    if with_states:
        _state_axis(axes[-1])
    for i, ax in enumerate(axes):
        ax.set_xlim(left=0)
        ax.margins(x=0.01)
        if shaded:
            _shade(ax, shaded, i == 0)
    axes[-1].set_xlabel("seconds since the run was started")
    if with_states:
        curves = [(group, _states(group.runs[0])) for group in groups if group.first.variant]
        firsts = {g.label: ((times[0], held[0]), style.text_colour(g)) for g, (times, held) in curves if times}
        name_points(axes[-1], firsts)
    return Picture(name, figure, missing)


def _states(run: RunRecord) -> tuple[list[float], list[float]]:
    return _xy([(number(row.get("time")), _state(row)) for row in run.metrics])


def _state(row: dict) -> float | None:
    memory = row.get("memory") or {}
    held = [number(memory.get(name)) for name in ("optimizer_state", "pruning_state")]
    return None if held[0] is None else sum(v for v in held if v is not None)


def _xy(points: Sequence[tuple[float | None, float | None]]) -> tuple[list[float], list[float]]:
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _state_axis(ax: Axes) -> None:
    ax.set_ylim(bottom=0)
    unit, scale = style.bytes_unit([ax.get_ylim()[1]])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v / scale:g}")
    ax.yaxis.set_major_locator(_multiples(ax.get_ylim()[1], scale))
    ax.set_ylabel(f"optimizer + pruning\nstate ({unit})")


def _multiples(top: float, scale: float) -> MultipleLocator:
    """Ticks at round numbers of the unit that `scale` bytes make."""
    rough = top / scale / 5
    power = 10 ** np.floor(np.log10(max(rough, 1e-9)))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    return MultipleLocator(step * scale)
