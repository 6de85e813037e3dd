"""Dot plots: a row for each configuration, a dot for each of its sparsities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from ..results.records import MeanStd, Results, SeedGroup
from . import style

Value = Callable[[SeedGroup], MeanStd | None]


def rows_of(groups: Sequence[SeedGroup]) -> list[str]:
    """Return the configurations in order: a row of a dot plot holds all sparsities of one."""
    return list(dict.fromkeys(group.configuration for group in groups))


def dots(
    ax: Axes,
    groups: Sequence[SeedGroup],
    results: Results,
    value: Value,
    label: str,
    scale: float = 1.0,
    digits: int = 2,
    absent: str = "not recorded",
    values_aside: bool = False,
) -> None:
    """Draw a row for each configuration, a dot for each sparsity, and where there are few its value over it.

    `values_aside` puts the values to the right of the dots, where a vertical line would strike them through.
    """
    rows = rows_of(groups)
    ends = []
    means: dict[int, list[float]] = {}
    for group in groups:
        stat, row = value(group), len(rows) - 1 - rows.index(group.configuration)
        if stat is None:
            ax.annotate(
                absent, (0.98, row), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8,
                color=style.FAINT,
            )  # fmt: skip
            continue
        spread = (stat.sd or 0.0) / scale
        point = style.point_style(group, results)
        ax.errorbar(stat.mean / scale, row, xerr=spread or None, ecolor=point["color"], capsize=3, **point)
        means.setdefault(row, []).append(stat.mean / scale)
        ends += [stat.mean / scale - spread, stat.mean / scale + spread]
    ax.set_yticks(range(len(rows)), rows[::-1])
    ax.set_ylim(-0.6, len(rows) - 0.3)
    ax.set_xlabel(label)
    if not ends:
        ax.text(0.5, 0.5, "nothing to show", transform=ax.transAxes, ha="center", color=style.FAINT)
        return
    style.fit(ax, ends)
    if len(groups) <= 8:
        _write_values(ax, means, digits, values_aside)


def _write_values(ax: Axes, means: dict[int, list[float]], digits: int, aside: bool) -> None:
    """The values beside the dots of each row, but none that would run into the one before it."""
    offset, alignment = ((10, -3), "left") if aside else ((0, 7), "center")
    low, high = ax.get_xlim()
    for row, values in means.items():
        last = -float("inf")
        for value in sorted(values):
            if value - last > 0.1 * (high - low):
                style.write_beside(ax, f"{value:,.{digits}f}", (value, row), offset, ha=alignment)
                last = value
