"""Pictures of sparsity say one thing in one way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lib.plots import accuracy_vs_sparsity, layer_sparsity, style
from lib.plots.axes import kept
from lib.results import load, plot_data
from lib.results.records import Results
from tests.helpers.fake_results import LAYERS, make_results


def small(folder: Path) -> Results:
    return plot_data.shrink(load.load(folder))


def rows_of(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_one_sparsity_gives_a_row_for_each_configuration_with_its_dense_run(tmp_path: Path) -> None:
    runs = [("sgd", "movement", 0.7), ("adamw", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]
    results = small(make_results(tmp_path, runs, seeds=2))
    with style.plot_style():
        picture = accuracy_vs_sparsity.accuracy_vs_sparsity(results)
    assert picture.figure.texts[0].get_text() == "Accuracy at 70 % sparsity"
    assert rows_of(picture.figure) == ["AdamWPrune state", "AdamW magnitude", "SGD movement"]
    written = {text.get_text() for text in picture.figure.axes[0].texts}
    pruned_groups = [group for group in results.groups if group.first.method != "none"]
    assert written == {group.stat("final_accuracy").text() for group in pruned_groups}
    assert picture.missing[:2] == [
        "One sparsity was trained: a row for each configuration instead of lines over sparsities.",
        "A thin line leads from the same optimizer's dense run.",
    ]


def test_two_sparsities_give_lines_over_sparsity(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, [("adamwprune", "state", 0.7), ("adamwprune", "state", 0.9)]))
    with style.plot_style():
        picture = accuracy_vs_sparsity.accuracy_vs_sparsity(results)
    assert picture.figure.axes[0].get_xlabel().startswith("sparsity") and not picture.missing


def test_numbers_and_colours_of_layers_are_both_sparsities(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, [("adamwprune", "state", 0.5), ("adamwprune", "state", 0.9)]))
    with style.plot_style():
        map_of_layers, bar = layer_sparsity.layer_sparsity(results).figure.axes
    (image,) = map_of_layers.images
    held = np.array([[run.metrics[-1]["layer_sparsity"][name] for name in LAYERS] for run in results.runs])
    np.testing.assert_allclose(image.get_array(), kept(held))
    assert bar.get_ylabel() == "sparsity (%)"
    shown = [float(tick.get_text()) for tick in bar.get_yticklabels()]
    assert [kept(level / 100) for level in shown] == pytest.approx(bar.get_yticks())
    brightness = [sum(image.to_rgba(kept(level))[:3]) for level in (0.0, 0.5, 0.9)]
    assert brightness == sorted(brightness, reverse=True)  # the sparser, the darker


@pytest.mark.parametrize("cut", [1, 10, 20, 39])
@pytest.mark.parametrize("logarithmic", [True, False])
def test_the_name_of_the_threshold_stays_in_its_panel(cut: int, logarithmic: bool) -> None:
    edges = np.geomspace(1e-6, 1, 41) if logarithmic else np.linspace(-1, 1, 41)
    with style.plot_style():
        figure = Figure(figsize=(12.6, 3.4))
        ax = figure.subplots(1, 3)[2]
        layer_sparsity.draw_histogram(ax, edges, np.full(40, 10.0), np.where(np.arange(40) < cut, 10.0, 0.0))
        (name,) = ax.texts
        box = name.get_window_extent()
    assert name.get_text() == "highest threshold"
    assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and box.y1 <= ax.bbox.y1
