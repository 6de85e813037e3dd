"""Names beside points, each where it covers neither another name nor a marker, and crosses no line if it can."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from . import style

DISTANCES = (9.0, 16.0, 28.0, 42.0, 58.0)  # points between a name and its marker, nearest first
REACH, CAP = 5.0, 2.0  # points around the middle of a marker, or of an error bar's end, that a name would cover
GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # so that no line strikes a name through
SIDES = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))


def name_points(ax: Axes, names: Mapping[str, tuple[tuple[float, float], str]]) -> None:
    """Write each name in its colour beside its point, which is in the units of the axes.

    Names of points that touch stand under each other, as the points do. To be called last: where there is room is
    known only when all else has its place.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    markers, lines, taken = list(_markers(ax, pixel)), list(_lines(ax)), list[Bbox]()
    for together in touching(names, ax.transData.transform, 2 * REACH * pixel):
        point = np.mean([names[name][0] for name in together], axis=0)
        colours = {names[name][1] for name in together}
        shade = colours.pop() if len(colours) == 1 else style.FAINT
        text = style.write_beside(ax, "\n".join(together), tuple(point), (0, 0), color=shade, bbox=GROUND)
        text.set_in_layout(False)
        here = np.asarray(ax.transData.transform(point))
        places = list(_places(here, text.get_window_extent().size, pixel))
        costs = [_cost(box, ax.bbox, taken, markers, lines) + i // len(SIDES) for i, box in enumerate(places)]
        best = places[costs.index(min(costs))]
        text.set_position(tuple((best.min - here) / pixel))
        taken.append(best)
        nearest = here.clip(best.min, best.max)
        if abs(nearest - here).max() > DISTANCES[1] * pixel:
            _thread(ax, text.xy, tuple((nearest - here) / pixel))


def touching(names: Mapping[str, tuple[tuple[float, float], str]], pixels: Callable, near: float) -> list[list[str]]:
    """Return the names from top to bottom, those whose points lie within `near` pixels in one list."""
    clusters: list[list[str]] = []
    at = {name: pixels(point) for name, (point, _) in names.items()}
    for name in sorted(names, key=lambda name: -at[name][1]):
        for cluster in clusters:
            if any(math.dist(at[name], at[member]) < near for member in cluster):
                cluster.append(name)
                break
        else:
            clusters.append([name])
    return clusters


def _markers(ax: Axes, pixel: float) -> Iterator[Bbox]:
    for line in ax.get_lines():
        if (marker := line.get_marker()) != "None":
            reach = pixel * (CAP if marker in ("_", "|") else REACH)
            for point in line.get_transform().transform(line.get_xydata()):
                yield Bbox([point - reach, point + reach])


def _lines(ax: Axes) -> Iterator[Path]:
    for line in ax.get_lines():
        if line.get_linestyle() != "None":
            yield line.get_path().transformed(line.get_transform())


def _places(here: np.ndarray, size: tuple[float, float], pixel: float) -> Iterator[Bbox]:
    """Boxes for a name of `size` around a point, in pixels, the nearest first."""
    for distance in DISTANCES:
        for across, up in SIDES:
            aside = DISTANCES[0] if up else distance  # names further up or down stay in one column
            x = here[0] + across * aside * pixel + (across - 1) / 2 * size[0]
            y = here[1] + up * distance * pixel + (up - 1) / 2 * size[1]
            yield Bbox.from_bounds(x, y, *size)


def _cost(box: Bbox, frame: Bbox, taken: Sequence[Bbox], markers: Sequence[Bbox], lines: Sequence[Path]) -> int:
    """How bad a place is: outside the axes is worse than on a name, that than on a marker, and that than on a line."""
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
    return 100_000 * (not inside) + 1000 * box.count_overlaps(taken) + 10 * box.count_overlaps(markers) + 2 * crossed


def _thread(ax: Axes, point: tuple[float, float], away: tuple[float, float]) -> None:
    """A thin line from a point to its name, where that stands far off."""
    line = {"arrowstyle": "-", "color": "#8b949e", "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
    ax.annotate("", point, away, textcoords="offset points", arrowprops=line, zorder=2).set_in_layout(False)
