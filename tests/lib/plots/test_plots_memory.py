"""Pictures of memory show what changes memory, beside what it is to be compared with."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from lib import plots
from lib.plots import (
    gpu_memory,
    inference,
    label_placement,
    measures,
    memory_breakdown,
    memory_vs_accuracy,
    run_selection,
    style,
    training_memory,
)
from lib.plots.style import plot_style
from lib.results import load, plot_data
from lib.results.records import Results, RunRecord
from tests.helpers.fake_results import PARAMETERS, START, compare_matrix, make_results, make_run, make_study, samples_of


def small(folder: Path) -> Results:
    return plot_data.shrink(load.load(folder))


def change(path: Path, **values: Any) -> None:
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    path.write_text(write(read(path.read_text()) | values))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study in which the variant `obd` holds an eighth of the states from the first epoch on."""
    folder = make_study(tmp_path, seeds=2)
    for run in folder.glob("*_obd_*"):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            row["memory"]["optimizer_state"] = PARAMETERS
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        summary = json.loads((run / "summary.json").read_text())
        for name in ("memory", "memory_peak"):
            summary[name]["optimizer_state"] = PARAMETERS
        change(run / "summary.json", **summary)
    return folder


def rows_of(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def names_in(ax: Axes) -> list[Annotation]:
    return [text for text in ax.texts if isinstance(text, Annotation) and text.get_text()]


def test_variants_that_change_memory_stand_beside_their_plain_runs_and_others_are_counted(study: Path) -> None:
    results = small(study)
    with style.plot_style():
        by_category = memory_breakdown.memory_by_category(results)
        compared = gpu_memory.memory_comparison(results)
        scatter = memory_vs_accuracy.memory_vs_accuracy(results)
    for picture in (by_category, compared, scatter):
        assert "Left out: 4 variants whose memory is that of the plain runs." in picture.missing
    assert {"AdamWPrune state 98 %", "AdamWPrune state (obd) 98 %"} < set(rows_of(by_category.figure.axes[0]))
    assert rows_of(compared.figure.axes[0])[:2] == ["AdamWPrune state (obd)", "AdamWPrune state"]
    told = "\n".join(text.get_text() for text in names_in(scatter.figure.axes[0]))
    assert "AdamWPrune state (obd) 98 %" in told and "AdamWPrune state 98 %" in told
    everywhere = [*rows_of(by_category.figure.axes[0]), *rows_of(compared.figure.axes[0]), told]
    assert not any("a-long-name" in label or "lamp" in label for label in everywhere)


def test_a_variant_without_plain_runs_is_shown_and_one_without_a_done_run_is_not(study: Path) -> None:
    for run in study.glob("*_magnitude_90_seed*"):
        change(run / "status.json", state="failed")
    for run in study.glob("*_obd_*"):
        change(run / "status.json", state="failed")
    shown, told = run_selection.with_memory_variants(small(study))
    assert {run.variant for run in shown.runs} == {"", "lamp"}
    assert told[0].startswith("Left out: 3 variants") and "and 3 more" in told[1]


def test_of_many_configurations_a_variant_whose_plain_run_failed_is_shown_once() -> None:
    def run(optimizer: str, method: str, variant: str | None = None, **more: Any) -> RunRecord:
        config = {"model": "lenet5", "optimizer": optimizer, "pruning_method": method, "target_sparsity": 0.7}
        return RunRecord(f"{optimizer}_{method}_{variant}", config | {"variant": variant}, **more)

    done: dict[str, Any] = {"status": {"state": "done"}, "summary": {"final_accuracy": 90.0}}
    runs = [run(o, m, **done) for o in ("sgd", "adam", "adamw", "adamwadv") for m in ("magnitude", "movement")]
    runs += [run("adamwprune", "state", status={"state": "failed"}), run("adamwprune", "state", "lean", **done)]
    shown = [group.key for group in run_selection.representative(Results("many", tuple(runs)))]
    assert len(shown) == len(set(shown)) == 5


def test_the_mean_of_a_variant_outlives_the_data_file_and_no_epoch_stands_for_those_before(study: Path) -> None:
    whole, packed = load.load(study), small(study)
    for run, thin in zip(whole.runs, packed.runs, strict=True):
        assert measures.BY_CATEGORY.mean_of(thin) == pytest.approx(measures.BY_CATEGORY.mean_of(run), rel=1e-5)
    (last,) = packed.runs[0].metrics[-1:]
    packed.runs[0].metrics[:] = [last]
    assert measures.BY_CATEGORY.mean_of(packed.runs[0]) is None


def test_samples_of_a_variant_are_not_kept_but_their_mean_and_peak_are(study: Path) -> None:
    for run in study.glob("lenet5_*"):
        rows = samples_of("state", 10, gpu=True, seed=0)
        (run / "gpu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = small(study)
    assert not any(run.samples for run in results.runs if run.variant)
    assert all(run.summary["sampled_in_training"]["process_mib"]["peak"] > 480 for run in results.runs)
    with style.plot_style():
        timeline = gpu_memory.memory_timeline(results)
    upper, lower = timeline.figure.axes
    assert "Samples over time are kept of plain runs only." in timeline.missing
    assert any("(obd) 98 %" in text.get_text() for text in names_in(lower))
    assert not any("(obd)" in text.get_text() for text in names_in(upper))


def test_the_mode_of_a_whole_matrix_is_named_in_rows_and_legends(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0), ("adamwprune", "state", 0.7)])
    change(folder / "lenet5_adamwprune_state_70" / "config.yaml", mode="lean")
    results = small(folder)
    with style.plot_style():
        picture = gpu_memory.memory_comparison(results)
    assert "AdamWPrune state, lean" in rows_of(picture.figure.axes[0])
    assert "state, lean" in [
        entry.get_label() for row in style.legend_entries(results.groups, results) for entry in row
    ]


def test_runs_trained_further_than_planned_are_named_in_pictures_that_show_them(tmp_path: Path) -> None:
    dense = [(optimizer, "none", 0.0) for optimizer in ("sgd", "adamw", "adamwprune")]
    folder = make_results(tmp_path, [*dense, ("adamwprune", "state", 0.7)])
    change(folder / "lenet5_adamwprune_state_70" / "summary.json", grown_from=3)
    for picture in plots.draw(small(folder)):
        if picture.figure:
            told = any("trained further: lenet5_adamwprune_state_70." in t.get_text() for t in picture.figure.texts)
            assert told != picture.name.startswith(("sgd", "adamw_")), picture.name
    for run in folder.glob("lenet5_*"):
        change(run / "summary.json", grown_from=3)
    assert run_selection.extended(small(folder)) == ["Planned for fewer epochs and trained further: all runs."]


def test_dense_runs_are_not_compared_at_a_sparsity_and_variants_with_the_plain_runs(study: Path) -> None:
    results = small(study)
    versus = training_memory.memory_over_adamwprune(results, measures.BY_CATEGORY)
    found = {group.label: versus(group) for group in results.groups}
    assert found["AdamW dense"] is None
    assert found["AdamWPrune state 98 %"].mean == 0
    assert found["AdamWPrune state (obd) 98 %"].mean < 0 < found["AdamW magnitude 98 %"].mean


def test_names_beside_points_leave_no_axes_and_cover_neither_each_other_nor_a_marker(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, compare_matrix(), epochs=3))
    with style.plot_style():
        picture = memory_vs_accuracy.memory_vs_accuracy(results)
        picture.png()
        for ax in picture.figure.axes:
            boxes = [text.get_window_extent() for text in names_in(ax)]
            assert len(boxes) >= 2
            assert all(box.x0 >= ax.bbox.x0 and box.x1 <= ax.bbox.x1 for box in boxes)
            assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
            marked = [line for line in ax.get_lines() if line.get_marker() != "None"]
            places = [point for line in marked for point in ax.transData.transform(line.get_xydata())]
            assert not any(box.contains(*point) for box in boxes for point in places)


def test_the_marker_of_a_single_run_is_whole(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, [("adamwprune", "state", 0.7)]))
    with style.plot_style():
        for ax in memory_vs_accuracy.memory_vs_accuracy(results).figure.axes:
            (point,) = [line.get_xydata()[0] for line in ax.get_lines() if line.get_marker() == "D"]
            across, up = ax.transAxes.inverted().transform(ax.transData.transform(point))
            assert 0.03 < across < 0.97 and 0.03 < up < 0.97


def test_names_of_points_that_touch_stand_together_from_top_to_bottom() -> None:
    points = {"low": ((0.0, 0.0), "k"), "high": ((1.0, 3.0), "k"), "far": ((50.0, 1.0), "k")}
    assert label_placement.touching(points, lambda point: point, near=10) == [["high", "low"], ["far"]]


def test_a_long_command_in_capitals_leaves_no_picture(study: Path) -> None:
    variants = "; ".join(f"V{i}: ADAMWPRUNE_RANKING=LAYER_ADAPTIVE" for i in range(9))
    change(study / "matrix.yaml", overrides={"VARIANTS": variants})
    with style.plot_style():
        picture = gpu_memory.memory_comparison(small(study))
        picture.png()
        (notes,) = [text for text in picture.figure.texts if text.get_text().startswith("made by")]
        assert notes.get_window_extent().x1 <= picture.figure.bbox.x1


def test_the_ramp_is_shaded_by_the_runs_own_clock_and_not_by_samples(tmp_path: Path) -> None:
    """Epochs of 2 seconds and half a second of evaluation from second 1 on, sampled far too late."""
    folder = make_run(tmp_path, "adamwprune", "state", 0.9, epochs=10)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"time": START + 1 + 2.5 * row["epoch"], "epoch_seconds": 2.0, "evaluation_seconds": 0.5}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = small(tmp_path).runs
    assert gpu_memory.phases(run) == [
        ("startup", 0.0, 1.0), ("train", 1.0, 3.5), ("ramp", 3.5, 16.0), ("finetune", 16.0, 25.5),
    ]  # fmt: skip


def test_points_that_others_cover_are_named(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adam", "none", 0.0), ("adamw", "none", 0.0), ("sgd", "none", 0.0)], epochs=2)
    for path, accuracy in zip(sorted(folder.glob("*/summary.json")), (98.0, 98.0, 97.0), strict=True):
        change(path, final_accuracy=accuracy)
    picture = memory_vs_accuracy.memory_vs_accuracy(small(folder))
    assert "Under other points: Adam dense." in picture.missing


def test_a_line_is_announced_only_where_there_is_one(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0), ("sgd", "none", 0.0)], epochs=2)
    for path, accuracy in zip(sorted(folder.glob("*/summary.json")), (97.0, 98.0), strict=True):
        change(path, final_accuracy=accuracy)
    with plot_style():
        picture = memory_vs_accuracy.memory_vs_accuracy(small(folder))
    assert picture.figure is not None
    assert [ax.get_title("left") for ax in picture.figure.axes] == ["Peak of training", "State held at the end"]


def test_one_configuration_has_no_panels_of_comparison(tmp_path: Path) -> None:
    picture = training_memory.training_memory_comparison(small(make_results(tmp_path, [("adamw", "none", 0.0)])))
    assert picture.figure is not None and len(picture.figure.axes) == 2


def test_the_ranking_is_by_accuracy_at_equal_or_less_memory(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0), ("sgd", "none", 0.0), ("sgd", "movement", 0.5)], epochs=2)
    for path, accuracy in zip(sorted(folder.glob("*/summary.json")), (98.0, 97.0, 97.5), strict=True):
        change(path, final_accuracy=accuracy)
    with plot_style():
        picture = training_memory.training_memory_comparison(small(folder))
    assert picture.figure is not None
    table = picture.figure.axes[5]
    assert "equal or less memory" in table.get_title("left")
    texts = [text.get_text() for text in table.texts]
    assert "per 100 MiB" not in texts, "no ratio of accuracy to memory that is mostly activations"
    assert [t for t in texts if "dense" in t or "movement" in t] == ["AdamW dense", "SGD dense", "SGD movement 50 %"]


def test_measured_inference_is_drawn_by_batch_size_with_units(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0)], seeds=2, epochs=2)
    for path, speed in zip(sorted(folder.glob("*/summary.json")), (100.0, 120.0), strict=True):
        batches = [
            {"batch_size": size, "tensor_peak": size * 2**20, "images_per_second": size * speed} for size in (1, 4, 16)
        ]
        change(path, inference={"batches": batches})
    results = small(folder)
    assert inference.measured_batches(results.groups[0], "images_per_second")[4].mean == 440
    picture = inference.inference_by_batch_size(results)
    assert picture.figure is not None
    speed_axes, memory_axes = picture.figure.axes
    assert (speed_axes.get_ylabel(), memory_axes.get_ylabel()) == ("images per second", "memory (MiB)")
    assert [label.get_text() for label in memory_axes.get_xticklabels()] == ["1", "4", "16"]
    assert list(memory_axes.get_lines()[0].get_ydata()) == [1, 4, 16]


def test_without_an_inference_test_its_picture_says_how_to_measure(tmp_path: Path) -> None:
    picture = inference.inference_by_batch_size(small(make_results(tmp_path, [("adamw", "none", 0.0)], epochs=2)))
    assert picture.figure is None and "INFERENCE_TEST=y" in picture.missing[0]


def test_no_line_strikes_a_value_through(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "magnitude", 0.9), ("adamwprune", "state", 0.9)], epochs=2)
    with plot_style():
        picture = training_memory.training_memory_comparison(small(folder))
    assert picture.figure is not None
    picture.figure.draw_without_rendering()
    ax = picture.figure.axes[3]
    (value,) = [text for text in ax.texts if text.get_text() == "0.0"]
    assert value.get_window_extent().x0 > ax.transData.transform((0, 0))[0], "the line at 0 lies left of the number"
