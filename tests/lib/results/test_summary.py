"""Tables say what the runs measured, over the right runs, and name what is missing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from lib.results import load, plot_data, summary
from lib.results.display_names import MIB
from tests.helpers.fake_results import compare_matrix, make_results, make_run


def lines_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(summary.to_csv(load.load(folder)))))


def test_mean_and_sample_deviation_are_over_the_seeds(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0)], seeds=3)
    for seed, accuracy in enumerate((98.0, 99.0, 100.0)):
        path = folder / f"lenet5_adamw_none_seed{seed}" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"final_accuracy": accuracy}))
    (line,) = lines_of(folder)
    assert (line["n"], float(line["accuracy_mean"]), float(line["accuracy_sd"])) == ("3", 99.0, 1.0)
    assert "99.00 ± 1.00" in summary.to_markdown(load.load(folder))


@pytest.mark.parametrize("state", ["failed", "diverged", "interrupted", "running"])
def test_runs_that_did_not_end_well_stay_out_of_the_mean_and_are_named(tmp_path: Path, state: str) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, state=state, reason="loss is | not\na number")
    (line,) = lines_of(tmp_path)
    assert (line["n"], line["runs"]) == ("1", "2")
    assert f"lenet5_adamw_none_seed1: {state}: loss is" in line["not_counted"]
    text = summary.to_markdown(load.load(tmp_path))
    assert f"- lenet5_adamw_none_seed1: {state}: loss is | not a number" in text


def test_a_done_run_without_a_final_accuracy_is_no_zero(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    recorded = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(recorded | {"final_accuracy": None}))
    (line,) = lines_of(tmp_path)
    assert (line["n"], line["accuracy_mean"]) == ("0", "")
    assert "no final accuracy" in line["not_counted"]


def test_accuracy_is_of_the_last_epoch_and_the_best_stands_beside_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (line,) = lines_of(tmp_path)
    assert float(line["accuracy_mean"]) == rows[-1]["test_accuracy"]
    assert float(line["best_epoch_accuracy_mean"]) == max(row["test_accuracy"] for row in rows)


def test_memory_column_shows_one_figure_for_all_rows(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw", gpu=True)
    (line,) = lines_of(tmp_path)
    assert line["memory_figure"] == "allocator_peak"
    make_run(tmp_path, "sgd")
    assert {line["memory_figure"] for line in lines_of(tmp_path)} == {"by_category"}


def test_accuracy_per_100_mib_is_told_of_a_gpus_memory_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9, gpu=True)
    (line,) = lines_of(tmp_path)
    run = load.load_run(folder)
    wanted = run.final_accuracy / (run.memory("allocator_peak") / MIB / 100)
    assert float(line["accuracy_per_100_mib"]) == pytest.approx(wanted)
    assert "acc. per 100 MiB" in summary.to_markdown(load.load(tmp_path))
    make_run(tmp_path, "sgd")
    assert {line["accuracy_per_100_mib"] for line in lines_of(tmp_path)} == {""}
    assert "acc. per 100 MiB" not in summary.to_markdown(load.load(tmp_path))


def test_state_stands_at_its_peak_and_at_its_end_in_bytes_per_prunable_weight(tmp_path: Path) -> None:
    make_run(tmp_path, "adamwprune", "state", 0.9)
    (line,) = lines_of(tmp_path)
    assert float(line["state_bytes_per_weight"]) == pytest.approx(0.9, abs=0.03)
    assert float(line["state_end_bytes_per_prunable"]) == pytest.approx(0.93, abs=0.01)
    assert float(line["state_peak_bytes_per_prunable"]) > 5
    text = summary.to_markdown(load.load(tmp_path))
    assert "state at peak, bytes per weight" in text and "state at end, bytes per weight" in text


def test_a_mode_of_state_pruning_is_explained_under_the_table(tmp_path: Path) -> None:
    config = make_run(tmp_path, "adamwprune", "state", 0.9) / "config.yaml"
    config.write_text(config.read_text() + "mode: lean\n")
    text = summary.to_markdown(load.load(tmp_path))
    assert "Mode lean: " in text and "Mode gradual: " not in text


def test_a_configuration_is_beaten_by_those_as_accurate_with_no_more_memory(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("sgd", "none", 0.0), ("adam", "none", 0.0), ("adamw", "none", 0.0)])
    for path, accuracy in zip(sorted(folder.glob("*/summary.json")), (98.0, 98.5, 98.0), strict=True):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"final_accuracy": accuracy}))
    beaten = {line["optimizer"]: line["beaten_by"] for line in lines_of(folder)}
    assert beaten == {"sgd": "0", "adamw": "0", "adam": "2"}


def with_ranking(folder: Path, ranking: str) -> None:
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + f"ranking: {ranking}\n")


def test_the_ranking_stands_in_table_remarks_and_names_where_runs_differ_in_it(tmp_path: Path) -> None:
    with_ranking(make_run(tmp_path, "adamw", "magnitude", 0.9), "global")
    with_ranking(make_run(tmp_path, "adamwprune", "state", 0.9), "layer_adaptive")
    make_run(tmp_path, "adamw")
    results = load.load(tmp_path)
    assert {line["ranking"] for line in lines_of(tmp_path)} == {"", "global", "layer_adaptive"}
    text = summary.to_markdown(results)
    assert "| magnitude | 90 | global |" in text
    assert "Ranking differs: magnitude global, state layer-adaptive" in text
    assert {group.label for group in results.groups} == {
        "AdamW dense", "AdamW magnitude, global ranking 90 %", "AdamWPrune state, layer-adaptive ranking 90 %",
    }  # fmt: skip


def test_a_ranking_that_all_runs_share_stands_in_the_remarks_and_in_names_unless_it_is_the_default(
    tmp_path: Path,
) -> None:
    for ranking, label in (("layer_adaptive", "AdamW magnitude 90 %"), ("erk", "AdamW magnitude, ERK ranking 90 %")):
        with_ranking(make_run(tmp_path / ranking, "adamw", "magnitude", 0.9), ranking)
        results = load.load(tmp_path / ranking)
        assert [group.label for group in results.groups] == [label]
        assert f"Ranking: {'ERK' if ranking == 'erk' else 'layer-adaptive'} in all" in summary.to_markdown(results)


def test_sparsity_stands_beside_that_of_all_parameters(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw", "magnitude", 0.9)
    (line,) = lines_of(tmp_path)
    assert 0 < float(line["final_sparsity_total"]) < float(line["final_sparsity"])


@pytest.mark.parametrize("setting", ["prune_first", "prune_last"])
def test_a_run_that_leaves_a_layer_whole_is_said_to_keep_more_weights(tmp_path: Path, setting: str) -> None:
    config = make_run(tmp_path, "adamw", "magnitude", 0.9) / "config.yaml"
    assert "keep more weights" not in summary.to_markdown(load.load(tmp_path))
    config.write_text(config.read_text() + f"{setting}: false\n")
    assert "keep more weights" in summary.to_markdown(load.load(tmp_path))


def test_runs_stand_in_the_order_of_the_matrix_and_planned_ones_are_missed(tmp_path: Path) -> None:
    folder = make_results(tmp_path, compare_matrix(), epochs=2)
    assert len(lines_of(folder)) == 39
    assert [line["optimizer"] for line in lines_of(folder)][::7] == [
        "sgd",
        "adam",
        "adamw",
        "adamwadv",
        "adamwspam",
        "adamwprune",
    ]
    for path in (folder / "lenet5_adam_none").iterdir():
        path.unlink()
    text = summary.to_markdown(load.load(folder))
    assert "38 of 39 runs done" in text
    assert "lenet5_adam_none: not started" in text


def test_synthetic_images_are_named_beside_their_accuracy(tmp_path: Path) -> None:
    make_run(tmp_path, dataset="synthetic")
    assert "Synthetic images" in summary.to_markdown(load.load(tmp_path))


def test_a_run_that_was_trained_further_than_planned_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    recorded = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(recorded | {"grown_from": 2}))
    found = load.load(tmp_path)
    assert f"{folder.name}: planned for 2 epochs and trained further" in summary.to_markdown(found)
    assert plot_data.shrink(found).runs[0].summary["grown_from"] == 2


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_no_text_of_a_run_is_a_formula_in_a_spreadsheet(tmp_path: Path, begin: str) -> None:
    folder = make_run(tmp_path, state="failed", reason="x").rename(tmp_path / f"{begin}cmd")
    config = f"model: lenet5\noptimizer: adamw\ndataset: '{begin}HYPERLINK(1)'\n"
    (folder / "config.yaml").write_text(config)
    (line,) = lines_of(tmp_path)
    assert line["dataset"] == f"'{begin}HYPERLINK(1)" and line["not_counted"].startswith(f"'{begin}cmd")
