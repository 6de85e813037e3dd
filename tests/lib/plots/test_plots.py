"""Pictures hold what was measured, say what is missing, and come out the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text

from lib import plots
from lib.monitor import summary
from lib.plots import (
    axes,
    gpu_memory,
    layer_sparsity,
    measures,
    memory_breakdown,
    memory_vs_accuracy,
    run_selection,
    style,
    training_curves,
)
from lib.results import load, plot_data
from lib.results.display_names import OPTIMIZERS
from lib.results.records import Results
from tests.helpers.fake_results import compare_matrix, make_results, make_run, make_study, with_inference

FEW = [("sgd", "movement", 0.7), ("adamw", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]
KEPT_NAMES = {
    "training_memory_comparison", "gpu_memory_comparison", "gpu_memory_timeline", "memory_vs_accuracy_scatter",
    "adamwprune_model_comparison", "adamwprune_accuracy_evolution",
}  # fmt: skip


def small(folder: Path) -> Results:
    return plot_data.shrink(load.load(folder))


def test_the_names_users_know_are_kept(tmp_path: Path) -> None:
    drawn = {
        picture.name for picture in plots.draw(small(with_inference(make_results(tmp_path, FEW)))) if picture.figure
    }
    assert drawn > KEPT_NAMES


def test_no_title_note_or_legend_leaves_its_picture(tmp_path: Path) -> None:
    for picture in plots.draw(small(with_inference(make_results(tmp_path, FEW, seeds=2)))):
        assert picture.figure is not None, picture.name
        picture.png()
        frame = picture.figure.bbox
        legends = picture.figure.findobj(Legend)
        for artist in [*picture.figure.texts, *legends, *(plot_axes.title for plot_axes in picture.figure.axes)]:
            box = artist.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= frame.x1 + 1 and box.y0 >= -1, (picture.name, artist)
            assert box.y1 <= frame.y1 + 1, (picture.name, artist)


def test_every_axis_has_a_label_or_names_on_its_ticks(tmp_path: Path) -> None:
    for picture in plots.draw(small(with_inference(make_results(tmp_path, FEW)))):
        assert picture.figure is not None
        for plot_axes in picture.figure.axes:
            if plot_axes.axison:
                assert plot_axes.get_xlabel() or plot_axes.get_ylabel(), picture.name


def test_titles_name_the_figure_of_memory(tmp_path: Path) -> None:
    on_cpu = small(make_results(tmp_path / "cpu", FEW))
    on_gpu = small(make_results(tmp_path / "gpu", FEW, gpu=True))

    def title(picture: style.Picture) -> str:
        assert picture.figure is not None
        return " ".join(picture.figure.texts[0].get_text().split())

    with style.plot_style():
        assert "counted from the tensors" in title(memory_vs_accuracy.memory_vs_accuracy(on_cpu))
        assert "allocator peak" in title(memory_vs_accuracy.memory_vs_accuracy(on_gpu))
        assert "host memory" in title(gpu_memory.memory_timeline(on_cpu))
        assert "GPU memory of the process" in title(gpu_memory.memory_timeline(on_gpu))


def test_same_results_give_the_same_bytes_also_from_the_data_file(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, FEW[1::2], epochs=3))
    again = plot_data.from_text(plot_data.to_text(results))
    first = [picture.png() for picture in plots.draw(results) if picture.figure]
    second = [picture.png() for picture in plots.draw(again) if picture.figure]
    assert first == second
    assert not any(b"matplotlib" in content.lower() for content in first)


def test_a_users_own_style_changes_no_picture(tmp_path: Path) -> None:
    import matplotlib

    results = small(make_results(tmp_path, FEW[:2], epochs=3))
    before = next(plots.draw(results)).png()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9}):
        assert next(plots.draw(results)).png() == before


@pytest.mark.parametrize("state", ["failed", "diverged", "interrupted"])
def test_a_folder_without_a_done_run_still_gives_its_curves_and_names_the_rest(tmp_path: Path, state: str) -> None:
    make_run(tmp_path, "adamw", "magnitude", 0.7, state=state, reason="loss is nan")
    pictures = {picture.name: picture for picture in plots.draw(small(tmp_path))}
    assert pictures["accuracy_per_epoch"].figure is not None
    assert any("loss is nan" in sentence for sentence in pictures["accuracy_per_epoch"].missing)
    assert pictures["memory_vs_accuracy_scatter"].figure is None
    assert all(picture.missing for picture in pictures.values() if picture.figure is None)


def test_runs_without_any_line_of_metrics_break_no_picture(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9)
    for name in ("metrics.jsonl", "gpu.jsonl", "summary.json"):
        (folder / name).unlink()
    assert all(picture.figure is None and picture.missing for picture in plots.draw(small(tmp_path)))


def test_holes_in_the_measurements_are_gaps(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[3]["test_accuracy"] = None
    rows[4]["memory"] = None
    rows[5]["test_accuracy"] = "NaN"
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "gpu.jsonl").write_text('{"time": null}\n{"phase": "ramp"}\n')
    results = small(tmp_path)
    epochs, mean, _ = training_curves.across_seeds(results.groups[0], "test_accuracy")
    assert list(epochs) == [1, 2, 3, 5, 7, 8, 9, 10]
    assert np.isfinite(mean).all()
    pictures = {picture.name: picture for picture in plots.draw(results)}
    assert any("sampled" in sentence for sentence in pictures["gpu_memory_timeline"].missing)
    for picture in pictures.values():
        if picture.figure:
            picture.png()


def test_bands_are_one_sample_deviation_and_uncounted_runs_stay_out(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, seed=seed)
    make_run(tmp_path, seed=3, state="diverged")
    group = small(tmp_path).groups[0]
    _, mean, deviation = training_curves.across_seeds(group, "test_accuracy")
    last = [run.metrics[-1]["test_accuracy"] for run in group.runs[:3]]
    assert mean[-1] == pytest.approx(np.mean(last)) and deviation[-1] == pytest.approx(np.std(last, ddof=1))


def test_colours_markers_and_lines_tell_everything_apart() -> None:
    assert set(style.COLOURS) == set(OPTIMIZERS) and len(set(style.COLOURS.values())) == 6
    assert len(set(style.MARKERS.values())) == len(set(map(str, style.STYLES.values()))) == 4


def test_accuracy_axis_keeps_values_inside_and_has_ticks(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    for values in ([10.0, 99.2], [98.9, 98.91], [100.0], [55.0, 60.0]):
        ax = Figure().subplots()
        axes.accuracy_axis(ax, values)
        low, high = ax.get_ylim()
        assert low <= min(values) and min(max(values), 99.99) <= high
        assert len(ax.get_yticks()) >= 2, values


def test_many_runs_are_thinned_to_a_readable_choice_and_it_is_said(tmp_path: Path) -> None:
    results = small(make_results(tmp_path, compare_matrix(), epochs=3))
    chosen = run_selection.representative(results)
    assert {group.first.optimizer for group in chosen} == set(OPTIMIZERS) and len(chosen) <= 8
    assert run_selection.selection_note(chosen, results) == [f"Shown: {len(chosen)} of 39 configurations."]


def test_data_file_stays_small_and_keeps_peaks(tmp_path: Path) -> None:
    results = load.load(make_results(tmp_path, compare_matrix(), epochs=100, gpu=True))
    packed = plot_data.shrink(results)
    assert len(plot_data.to_text(packed).encode()) <= plot_data.LIMIT
    for run, thin in zip(results.runs, packed.runs, strict=True):
        peak = max(row["process_mib"] for row in run.samples if row["phase"] in ("train", "ramp", "finetune"))
        assert thin.summary["sampled_in_training"]["process_mib"]["peak"] == pytest.approx(peak, rel=1e-5)
        assert thin.memory("by_category") == run.memory("by_category")


def test_data_file_tells_nothing_of_the_users_machine(tmp_path: Path) -> None:
    folder = make_results(tmp_path, FEW[:1])
    (folder / "environment.json").write_text('{"host": "secret", "command": "/home/me/x", "device": "CPU"}')
    text = plot_data.to_text(small(folder))
    assert "secret" not in text and "/home/me" not in text


def test_measured_inference_is_shown_at_the_batch_size_of_training(tmp_path: Path) -> None:
    folder = make_run(tmp_path, epochs=2)
    summary = json.loads((folder / "summary.json").read_text())
    batches = [{"batch_size": size, "tensor_peak": 300_000 + 1000 * size, "latency_ms": 1.0} for size in (1, 128, 512)]
    (folder / "summary.json").write_text(json.dumps(summary | {"inference": {"batches": batches}}))
    group = small(tmp_path).groups[0]
    held = memory_breakdown.inference_bytes(group, group.first.memory_at_peak())
    assert sum(held.values()) == pytest.approx(428_000, rel=1e-4)


def test_reasons_in_the_data_file_hold_no_folders_of_the_machine(tmp_path: Path) -> None:
    make_run(tmp_path, state="failed", reason="/home/me/results/x/config.yaml: 3/4 of loss/step: bad")
    (run,) = small(tmp_path).runs
    assert run.status["reason"] == "config.yaml: 3/4 of loss/step: bad"


def test_sampled_figure_is_the_one_all_runs_have(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw", gpu=True)
    assert measures.sampled(small(tmp_path)).key == "process_mib"
    make_run(tmp_path, "sgd")
    assert measures.sampled(small(tmp_path)).key == "host_rss_mib"
    assert measures.training(small(tmp_path)) is measures.BY_CATEGORY


def test_sampled_figures_of_pictures_are_those_of_the_summary_of_the_recording(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9, gpu=True)
    rows = [json.loads(line) for line in (folder / "gpu.jsonl").read_text().splitlines()]
    for row in rows:  # the most memory is held where no weight changes
        row["process_mib"] += {"startup": 3000, "evaluate": 2000}.get(row["phase"], 0)
    (folder / "gpu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = summary.summarize(rows)["devices"]["gpu 0"]["training"]["process_mib"]
    assert training["peak"] < 1000
    results = small(tmp_path)
    figure, (run,) = measures.sampled(results), results.runs
    assert figure and "evaluation" not in figure.name
    assert figure.mean_of(run) == pytest.approx(training["mean"] * 2**20, rel=1e-5)
    assert figure.peak_of(run) == pytest.approx(training["peak"] * 2**20, rel=1e-5)


def test_samples_of_other_devices_stay_out_of_a_runs_figures(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamw", gpu=True)
    alone = small(tmp_path).runs[0]
    rows = [json.loads(line) for line in (folder / "gpu.jsonl").read_text().splitlines()]
    lines = []
    for row in rows:  # the first device is another's, and fuller
        other = {name: value for name, value in row.items() if name != "process_mib"} | {"device_used_mib": 70_000}
        lines += [json.dumps(other), json.dumps(row | {"gpu": 1})]
    (folder / "gpu.jsonl").write_text("\n".join(lines) + "\n")
    beside = small(tmp_path).runs[0]
    assert beside.summary == alone.summary and beside.samples == alone.samples


def test_published_figures_that_hold_evaluation_say_so(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw")
    text = plot_data.to_text(small(tmp_path))
    older = plot_data.from_text(text.replace('"sampled_in_training":', '"sampled":'))
    figure = measures.sampled(older)
    assert figure and figure.name == "sampled host memory (RSS), with evaluation"
    assert figure.peak_of(older.runs[0]) == measures.SAMPLED["host_rss_mib"].peak_of(small(tmp_path).runs[0])
    picture = next(p for p in plots.draw(older) if p.name == "gpu_memory_comparison")
    assert picture.figure and any("with evaluation" in text.get_text() for text in picture.figure.texts)


def test_histograms_that_are_not_whole_are_left_out() -> None:
    assert layer_sparsity.complete_histogram({"edges": [0, 1, 2], "counts": [1, 2], "pruned": [1, 0]}) is not None
    assert layer_sparsity.complete_histogram({"edges": [0, 1], "counts": [1, 2], "pruned": [1, 0]}) is None
    assert layer_sparsity.complete_histogram({"edges": [0, 1, 2], "counts": [1, 2]}) is None
    assert layer_sparsity.complete_histogram({"counts": "x"}) is None


def test_a_study_shows_every_configuration_in_one_picture_and_plain_runs_in_the_others(tmp_path: Path) -> None:
    small = plot_data.shrink(load.load(make_study(tmp_path)))
    pictures = [(picture, picture.png()) for picture in plots.draw(small) if picture.figure]
    plot_axes = next(picture.figure.axes for picture, _ in pictures if picture.name == "variants")
    assert [ax.get_title(loc="left") for ax in plot_axes] == ["90 %", "98 %"]
    shown = {label.get_text() for label in plot_axes[0].get_yticklabels()}
    assert shown == {
        "AdamW magnitude", "AdamW magnitude (lamp)", "AdamWPrune state", "AdamWPrune state (obd)",
        "AdamWPrune state (a-long-name-of-one)",
    }  # fmt: skip
    plain = {picture.name: picture.png() for picture in plots.draw(small.without_variants()) if picture.figure}
    assert "variants" not in plain
    assert plain.keys() == {picture.name for picture, _ in pictures} - {"variants"}
    for picture, _ in pictures:
        assert picture.figure is not None
        texts = " ".join(text.get_text().replace("\n", " ") for text in picture.figure.findobj(Text))
        if picture.name != "variants":
            assert "(obd)" not in texts, picture.name
            assert "Left out: " in texts and "variants" in texts, picture.name


def test_variants_of_dense_runs_alone_are_no_picture_and_that_is_said(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0)])
    config = folder / "lenet5_adamw_none" / "config.yaml"
    config.write_text(config.read_text() + "variant: slow\n")
    first = next(plots.draw(plot_data.shrink(load.load(folder))))
    assert (first.name, first.figure) == ("variants", None) and "dense ones are in the table" in first.missing[0]


def test_synthetic_images_are_named_under_every_title(tmp_path: Path) -> None:
    results = small(make_run(tmp_path, dataset="synthetic").parent)
    for picture in plots.draw(results):
        if picture.figure:
            assert "synthetic images" in picture.figure.texts[1].get_text()


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    made = make_results(tmp_path, FEW[-1:], epochs=2)
    folder = made.rename(tmp_path / "a$^$b_$5-20240101-120000")
    for picture in plots.draw(small(folder)):
        assert picture.figure is None or picture.png()


def test_a_single_epoch_stands_in_the_middle_of_its_axis(tmp_path: Path) -> None:
    folder = make_results(tmp_path, FEW[:1], epochs=1)
    with plots.plot_style():
        picture = training_curves.accuracy_per_epoch(small(folder))
    assert picture.figure is not None
    (ax,) = picture.figure.axes
    assert ax.get_xlim() == (0.5, 1.5) and list(ax.get_xticks()) == [1.0]


def test_a_histogram_whose_update_pruned_too_few_to_be_seen_says_how_many(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9, epochs=3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["importance"]["pruned"] = [0] * 40
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with plots.plot_style():
        picture = layer_sparsity.importance_histograms(small(tmp_path))
    assert picture.figure is not None
    first, *_, last = picture.figure.axes
    assert [any("pruned 0\nof " in text.get_text() for text in ax.texts) for ax in (first, last)] == [False, True]
