"""One look for all pictures: colour is the optimizer, marker and line style are the pruning method, and the
strength of the colour is the sparsity. The markers of variants are hollow.

Pictures have a white ground of their own, so that they read the same in print and on a dark page. They are
drawn without a display and hold no dates: the same results give the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend as FigureLegend
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.typing import ColorType, RcKeyType

from ..results.display_names import METHOD_NAMES, METHODS, MODEL_NAMES, OPTIMIZER_NAMES, OPTIMIZERS
from ..results.recipe import recipe
from ..results.records import Results, SeedGroup
from . import run_selection

# Okabe and Ito's colours, which readers with any of the usual kinds of colour blindness can tell apart
COLOURS = {
    "sgd": "#5b5b5b", "adam": "#56b4e9", "adamw": "#0072b2", "adamwadv": "#009e73", "adamwspam": "#cc79a7",
    "adamwprune": "#d55e00",
}  # fmt: skip
MARKERS = {"none": "o", "magnitude": "s", "movement": "^", "state": "D"}
STYLES = {"none": (0, (1, 1.4)), "magnitude": (0, (5, 1.8)), "movement": (0, (6, 1.5, 1, 1.5)), "state": "-"}
CATEGORY_COLOURS = {
    "weights": "#0072b2", "buffers": "#56b4e9", "gradients": "#009e73", "activations": "#c9c9c9",
    "optimizer_state": "#e69f00", "pruning_state": "#d55e00",
}  # fmt: skip
DATASET_NAMES = {
    "mnist": "MNIST", "mnist5k": "5,000 MNIST digits", "cifar10": "CIFAR-10", "image_folder": "a folder of images"
}  # fmt: skip
INK, FAINT, GRID = "#24292f", "#6a737d", "#e1e4e8"
DPI = 130

RC: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": "#8b949e", "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8,
    "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.markersize": 5, "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
    "legend.fontsize": 9, "axes.formatter.useoffset": False, "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip


@contextmanager
def plot_style() -> Iterator[None]:
    """Use our look and nobody else's: a user's matplotlibrc changes no picture."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


@dataclass
class Picture:
    """A figure under its file name, or no figure; `missing` are sentences about what could not be shown."""

    name: str
    figure: Figure | None
    missing: list[str] = field(default_factory=list)

    def png(self) -> bytes:
        """Return the file's bytes, without date and without matplotlib's release in them."""
        assert self.figure is not None
        out = io.BytesIO()
        FigureCanvasAgg(self.figure).print_png(out, metadata={"Software": None})
        return out.getvalue()


def optimizer_name(optimizer: str) -> str:
    return OPTIMIZER_NAMES.get(optimizer, optimizer)


def method_name(method: str) -> str:
    return METHOD_NAMES.get(method, method)


def subtitle(results: Results) -> str:
    """Return what was trained on what, how long and how often: the line under every title."""

    def values(name: str) -> str:
        distinct = dict.fromkeys(str(run.config[name]) for run in results.runs if run.config.get(name) is not None)
        return "/".join(distinct)

    model = "/".join(MODEL_NAMES.get(name, name) for name in results.models)
    if (width := values("width")) not in ("", "64"):
        model += f" (width {width} instead of 64)"
    limits = [f"{int(limit):,} training images" for limit in values("train_images").split("/") if limit.strip("0")]
    device = results.environment.get("device") or values("device").replace("cpu", "CPU").replace("cuda", "CUDA")
    seeds = len({run.seed for run in results.runs})
    synthetic = any(run.synthetic for run in results.runs)
    data = (
        "synthetic images: accuracy says nothing about real data"
        if synthetic
        else DATASET_NAMES.get(values("dataset"), values("dataset"))
    )
    epochs = values("epochs")
    parts = [f"{model} on {data}", *limits, f"{epochs} epoch{'s' * (epochs != '1')}"]
    parts += [f"{seeds} seed{'s' * (seeds != 1)}"]
    return " · ".join([*parts, *([str(device)] if device else [])])


def sparsity_alpha(group: SeedGroup, results: Results) -> float:
    """Return 0.4 to 1 over the sparsities that occur: the higher, the stronger the colour."""
    levels = sorted({run.target_sparsity for run in results.runs if run.method != "none"})
    if group.first.method == "none" or len(levels) < 2:
        return 1.0
    return 0.4 + 0.6 * levels.index(group.first.target_sparsity) / (len(levels) - 1)


def tint(colour: str, amount: float) -> tuple[float, float, float]:
    """Return `colour` mixed with white; 1 leaves it as it is."""
    red, green, blue = to_rgb(colour)
    return 1 - amount * (1 - red), 1 - amount * (1 - green), 1 - amount * (1 - blue)


def colour(group: SeedGroup, results: Results) -> tuple[float, float, float]:
    return tint(COLOURS.get(group.first.optimizer, "#999999"), sparsity_alpha(group, results))


def text_colour(group: SeedGroup) -> str:
    """Return the optimizer's colour, dark enough for small text."""
    red, green, blue = to_rgb(COLOURS.get(group.first.optimizer, "#999999"))
    return to_hex((0.8 * red, 0.8 * green, 0.8 * blue))


def line_style(group: SeedGroup, results: Results) -> dict:
    """Return keyword arguments for a line of this group; AdamWPrune, which this is about, is drawn on top."""
    emphasised, shade = group.first.optimizer == "adamwprune", colour(group, results)
    hollow = {"marker": "o", "markersize": 4, **marker_fill(group, shade)} if group.first.variant else {}
    return hollow | {
        "color": shade,
        "linestyle": STYLES.get(group.first.method, "-"),
        "linewidth": 2.2 if emphasised else 1.5,
        "zorder": 4 if emphasised else 3,
    }


def point_style(group: SeedGroup, results: Results, size: float = 7) -> dict:
    """Return keyword arguments for a single marker of this group."""
    emphasised, shade = group.first.optimizer == "adamwprune", colour(group, results)
    return marker_fill(group, shade) | {
        "color": shade,
        "marker": MARKERS.get(group.first.method, "o"),
        "markersize": size * (1.15 if emphasised else 1.0),
        "linestyle": "none",
        "zorder": 5 if emphasised else 4,
    }


def marker_fill(group: SeedGroup, shade: object) -> dict:
    """Return the keyword arguments that fill a marker for plain runs and leave it hollow for a variant."""
    if group.first.variant:
        return {"markerfacecolor": "white", "markeredgecolor": shade, "markeredgewidth": 1.5}
    return {"markerfacecolor": shade, "markeredgecolor": "white", "markeredgewidth": 0.7}


Legend = Sequence[Sequence[Artist]]


def legend_entries(groups: Iterable[SeedGroup], results: Results, points: bool = False, levels: bool = True) -> Legend:
    """Return two rows of legend: optimizers by colour; methods by line or marker, sparsities by strength."""
    groups = list(groups)
    optimizers = [name for name in OPTIMIZERS if name in {g.first.optimizer for g in groups}]
    optimizers += sorted({g.first.optimizer for g in groups} - set(OPTIMIZERS))

    def bar(shade: ColorType, label: str) -> Line2D:
        return Line2D([], [], color=shade, linewidth=5, solid_capstyle="butt", label=label)

    first = [bar(COLOURS.get(name, "#999999"), optimizer_name(name)) for name in optimizers]
    second: list[Artist] = []
    for name in [name for name in METHODS if name in {g.first.method for g in groups}]:
        drawn = {"marker": MARKERS[name], "linestyle": "none"} if points else {"linestyle": STYLES[name]}
        plain = [g for g in groups if g.first.method == name and not g.first.variant]
        label = plain[0].method_name if plain else method_name(name)
        second.append(Line2D([], [], color=INK, label=label, **drawn))
    if points and any(g.first.variant for g in groups):
        second.append(Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="none", label="variant"))
    at = {g.first.target_sparsity: g for g in groups if g.first.method != "none"}
    if levels and len(at) > 1:
        second += [bar(tint(INK, sparsity_alpha(at[v], results)), f"{100 * v:g} %") for v in sorted(at)]
    return [first, second]


def new_figure(
    title: str,
    results: Results,
    grid: tuple[int, int] = (1, 1),
    panel: tuple[float, float] = (9.0, 4.6),
    legend: Legend = (),
    missing: Sequence[str] = (),
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `grid` (rows, columns) panels of `panel` inches, with title, subtitle, legend and notes."""
    rows, columns = grid
    width = max(columns * panel[0], 7.5)
    remarks = [*run_selection.extended(results), *run_selection.variants_note(results)]
    notes = [f"made by: {recipe(results)}", *remarks, *missing]
    notes = [line for note in notes for line in textwrap.wrap(note, int(width * 14.2))][:10]
    wide = int(width / 1.3)
    if len(legend) > 1 and sum(map(len, legend)) <= wide:
        legend = [[entry for row in legend for entry in row]]
    subtitle_lines = textwrap.wrap(subtitle(results), int(width * 12.5))
    title_lines = textwrap.wrap(title, int(width * 7.9))
    top = 0.16 + 0.25 * len(title_lines) + 0.19 * len(subtitle_lines) + 0.08
    bottom = 0.10 + 0.165 * len(notes) + (0.22 * len(legend) + 0.06 if legend else 0.0)
    height = rows * panel[1] + top + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False, **options))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0.005, bottom / height, 0.99, 1 - (top + bottom) / height), w_pad=0.08, h_pad=0.06)
    left = 0.12 / width
    y = 1 - 0.12 / height
    figure.text(left, y, "\n".join(title_lines), fontsize=14, fontweight="bold", va="top", linespacing=1.15)
    y -= (0.25 * len(title_lines) + 0.03) / height
    figure.text(left, y, "\n".join(subtitle_lines), fontsize=9.5, color=FAINT, va="top")
    figure.text(left, 0.06 / height, "\n".join(notes), fontsize=8, color=FAINT, va="bottom", linespacing=1.25)
    for i, row in enumerate(reversed(legend)):
        place = (0.5, (0.10 + 0.165 * len(notes) + 0.22 * i) / height)
        figure.add_artist(
            FigureLegend(
                figure, list(row), [str(entry.get_label()) for entry in row], loc="lower center",
                bbox_to_anchor=place, ncols=max(len(row), 1), handlelength=2.4, columnspacing=1.3,
                borderaxespad=0.0, borderpad=0.1,
            )
        )  # fmt: skip
    return figure, list(axes)


def write_beside(
    ax: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **more: Any
) -> Annotation:
    """Write small text near a data point, with a white halo so that lines behind it do not cut it."""
    halo = [withStroke(linewidth=2.5, foreground="white")]
    options: dict[str, Any] = {"fontsize": 8, "zorder": 7, "path_effects": halo} | more
    return ax.annotate(text, point, offset, textcoords="offset points", **options)


def fit(ax: Axes, values: Iterable[float], least: float = 0.02) -> None:
    """Let the x axis hold `values` with some air, and never magnify a spread below `least` of their size."""
    low, high = min(values := list(values)), max(values)
    if high - low < (spread := least * max(abs(low), abs(high))):
        low, high = (low + high - spread) / 2, (low + high + spread) / 2
    margin = 0.07 * (high - low) or 1.0
    ax.set_xlim(max(low - margin, 0.0) if low > 0 else low - margin, high + margin)


def bytes_unit(values: Iterable[float]) -> tuple[str, float]:
    """Return MiB, or KiB where all values are small: the unit's name and its bytes."""
    return ("MiB", 2.0**20) if max(values, default=0.0) >= 2**20 else ("KiB", 2.0**10)
