"""Axes that space accuracies as their errors differ, and sparsities as the weights kept differ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# accuracies worth a tick
_LEVELS = (
    0, 10, 30, 50, 60, 70, 75, 80, 85, 88, 90, 91, 92, 93, 94, 95, 96, 97, 97.5, 98, 98.25, 98.5, 98.75, 99,
    99.2, 99.4, 99.6, 99.8, 99.9, 99.95,
)  # fmt: skip


def kept(sparsity: Any) -> Any:
    """Return a sparsity's place on its axis: the logarithm of the share of weights kept, down to a thousandth."""
    return -np.log10(np.maximum(1 - np.asarray(sparsity, float), 1e-3))


def accuracy_position(accuracy: Any) -> Any:
    """Return an accuracy's place on its axis: the logarithm of the error, down to 0.005 %."""
    return -np.log10(np.clip(100 - np.asarray(accuracy, float), 0.005, None))


def accuracy_axis(axes: Axes, values: Iterable[float], vertical: bool = True, what: str = "test accuracy (%)") -> None:
    """Space accuracies by the logarithm of the error, so that 98 and 99 % stand as far apart as 96 and 98 %.

    `values` are the accuracies in percent that the axis must hold.
    """
    known = [min(max(v, 0.0), 99.99) for v in values if v is not None and math.isfinite(v)]

    def back(u: Any) -> Any:
        return 100 - 10.0 ** -np.asarray(u, float)

    set_scale = axes.set_yscale if vertical else axes.set_xscale
    set_scale("function", functions=(accuracy_position, back))
    axis = axes.yaxis if vertical else axes.xaxis
    set_label = axes.set_ylabel if vertical else axes.set_xlabel
    set_label(f"{what}, spaced by log error")
    axis.set_minor_locator(NullLocator())
    if not known:
        return
    low, high = float(accuracy_position(min(known))), float(accuracy_position(max(known)))
    margin = max(0.06 * (high - low), 0.02)
    low, high = low - margin, high + margin
    (axes.set_ylim if vertical else axes.set_xlim)(float(back(low)), float(back(high)))
    shown: list[float] = []
    for level in _levels_between(float(back(low)), float(back(high))):
        if not shown or float(accuracy_position(level)) - float(accuracy_position(shown[-1])) > 0.075 * (high - low):
            shown.append(level)
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.6g}"))


def _levels_between(low: float, high: float) -> list[float]:
    """Round accuracies within a range: from the list, or evenly spaced where the range is too narrow."""
    ticks = [float(level) for level in _LEVELS if low <= level <= high]
    if len(ticks) >= 3:
        return ticks
    step = 10 ** math.floor(math.log10(max(high - low, 1e-6)))
    for factor in (1.0, 0.5, 0.2):
        first = math.ceil(low / (step * factor))
        ticks = [round(i * step * factor, 8) for i in range(first, int(high / (step * factor)) + 1)]
        if len(ticks) >= 3:
            break
    return ticks
