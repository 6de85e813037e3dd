"""Tables say what the runs measured, over the right runs, and name what is missing."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.results import compare, load, plot_data, text_table
from lib.results.display_names import MIB, method_name
from lib.results.records import Run, Stat
from lib.storage.project import ROOT
from scripts import results
from tests.helpers.fake_results import compare_matrix, make_results, make_run


def lines_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(results.to_csv(load.load(folder)))))


def test_mean_and_sample_deviation_are_over_the_seeds(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0)], seeds=3)
    for seed, accuracy in enumerate((98.0, 99.0, 100.0)):
        path = folder / f"lenet5_adamw_none_seed{seed}" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"final_accuracy": accuracy}))
    (line,) = lines_of(folder)
    assert (line["n"], float(line["accuracy_mean"]), float(line["accuracy_sd"])) == ("3", 99.0, 1.0)
    assert "99.00 ± 1.00" in results.to_markdown(load.load(folder))


def test_one_run_has_a_mean_but_no_deviation() -> None:
    assert Stat.of([98.5]) == Stat(1, 98.5, None)
    assert Stat.of([None, float("nan")]) is None


@pytest.mark.parametrize("state", ["failed", "diverged", "interrupted", "running"])
def test_runs_that_did_not_end_well_stay_out_of_the_mean_and_are_named(tmp_path: Path, state: str) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, state=state, reason="loss is | not\na number")
    (line,) = lines_of(tmp_path)
    assert (line["n"], line["runs"]) == ("1", "2")
    assert f"lenet5_adamw_none_seed1: {state}: loss is" in line["not_counted"]
    text = results.to_markdown(load.load(tmp_path))
    assert f"- lenet5_adamw_none_seed1: {state}: loss is | not a number" in text


def test_a_done_run_without_a_final_accuracy_is_no_zero(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"final_accuracy": None}))
    (line,) = lines_of(tmp_path)
    assert (line["n"], line["accuracy_mean"]) == ("0", "")
    assert "no final accuracy" in line["not_counted"]


def test_accuracy_is_of_the_last_epoch_and_the_best_stands_beside_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (line,) = lines_of(tmp_path)
    assert float(line["accuracy_mean"]) == rows[-1]["test_accuracy"]
    assert float(line["best_epoch_accuracy_mean"]) == max(row["test_accuracy"] for row in rows)


def test_peak_by_category_is_the_summarys_which_saw_more_than_the_ends_of_epochs() -> None:
    ends = [{"memory": {"weights": 10, "optimizer_state": 5}}]
    run = Run("r", {}, metrics=ends, summary={"memory_peak": {"weights": 10, "optimizer_state": 20}})
    assert run.memory("by_category") == 30


def test_peak_by_category_of_an_unfinished_run_is_its_largest_epoch(tmp_path: Path) -> None:
    run = Run(
        "r",
        {},
        metrics=[{"memory": {"weights": 10, "gradients": 5}}, {"memory": {"weights": 4, "gradients": 9}}],
    )
    assert run.memory("by_category") == 15
    assert run.memory("allocator_peak") is None


def test_memory_column_shows_one_figure_for_all_rows(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw", gpu=True)
    (line,) = lines_of(tmp_path)
    assert line["memory_figure"] == "allocator_peak"
    make_run(tmp_path, "sgd")
    assert {line["memory_figure"] for line in lines_of(tmp_path)} == {"by_category"}


def test_accuracy_per_100_mib_and_state_bytes_per_weight(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "adamwprune", "state", 0.9)
    (line,) = lines_of(tmp_path)
    run = load.load_run(folder)
    assert float(line["accuracy_per_100_mib"]) == pytest.approx(
        run.final_accuracy / (run.memory("by_category") / MIB / 100)
    )
    assert float(line["state_bytes_per_weight"]) == pytest.approx(0.9, abs=0.03)


def test_sparsity_stands_beside_that_of_all_parameters(tmp_path: Path) -> None:
    make_run(tmp_path, "adamw", "magnitude", 0.9)
    (line,) = lines_of(tmp_path)
    assert 0 < float(line["final_sparsity_total"]) < float(line["final_sparsity"])


@pytest.mark.parametrize("setting", ["prune_first", "prune_last"])
def test_a_run_that_leaves_a_layer_whole_is_said_to_keep_more_weights(tmp_path: Path, setting: str) -> None:
    config = make_run(tmp_path, "adamw", "magnitude", 0.9) / "config.yaml"
    assert "keep more weights" not in results.to_markdown(load.load(tmp_path))
    config.write_text(config.read_text() + f"{setting}: false\n")
    assert "keep more weights" in results.to_markdown(load.load(tmp_path))


def test_torn_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "sgd", "movement", 0.7, 2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 11, "test_acc')
    (folder / "config.yaml").write_text("model: [")
    (folder / "summary.json").write_text('{"final_accuracy": 9')
    run = load.load_run(folder)
    assert (run.model, run.optimizer, run.method, run.target_sparsity, run.seed) == (
        "lenet5",
        "sgd",
        "movement",
        0.7,
        2,
    )
    assert (len(run.metrics), run.dropped) == (10, 1)
    assert run.final_accuracy == run.metrics[-1]["test_accuracy"]


def test_an_epoch_written_twice_counts_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 10, "test_accuracy": 12.5}\n')
    run = load.load_run(folder)
    assert run.column("epoch") == list(range(1, 11))
    assert run.column("test_accuracy")[-1] == 12.5


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
    text = results.to_markdown(load.load(folder))
    assert "38 of 39 runs done" in text
    assert "lenet5_adam_none: not started" in text


def test_synthetic_images_are_named_beside_their_accuracy(tmp_path: Path) -> None:
    make_run(tmp_path, dataset="synthetic")
    assert "Synthetic images" in results.to_markdown(load.load(tmp_path))


def test_a_run_that_was_trained_further_than_planned_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"grown_from": 2}))
    found = load.load(tmp_path)
    assert f"{folder.name}: planned for 2 epochs and trained further" in results.to_markdown(found)
    assert plot_data.shrink(found).runs[0].summary["grown_from"] == 2


@pytest.mark.parametrize(
    ("mode", "variant", "label"),
    [("gradual", "", "state"), ("lean", "", "state, lean"), ("lean", "small", "state (small)"), (None, "", "state")],
)
def test_a_mode_that_no_variant_names_stands_in_the_label(mode: str | None, variant: str, label: str) -> None:
    assert method_name("state", variant, mode) == label


def test_compare_gives_differences_with_their_error_and_names_what_stands_alone(tmp_path: Path) -> None:
    a = make_results(tmp_path / "a", [("adamw", "none", 0.0), ("sgd", "none", 0.0)], seeds=2, epochs=4)
    b = make_results(tmp_path / "b", [("adamw", "none", 0.0)], seeds=2, epochs=6)
    rows, told = compare.comparison(load.load(a), load.load(b))
    assert [row[0] for row in rows] == ["LeNet-5 AdamW dense"]
    assert "±" in rows[0][3]
    assert any("SGD dense" in sentence for sentence in told)
    assert "epochs: 4 in A, 6 in B (1 groups)" in told
    assert compare.change(Stat(2, 90.0, 3.0), Stat(2, 91.0, 4.0)) == "+1.00 ± 3.54"


def test_summary_command_writes_both_files_and_starts_fast_without_heavy_packages(tmp_path: Path) -> None:
    make_results(tmp_path, compare_matrix(), epochs=3)
    probe = "import sys; from scripts import results; results.main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", probe, "summary", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "matplotlib", "pandas", "numpy"}
    assert "AdamWPrune  state" in done.stdout
    folder = tmp_path / "lenet5-compare-20240101-120000"
    assert (folder / "summary.csv").is_file() and (folder / "summary.md").is_file()


@pytest.mark.parametrize("arguments", [["summary"], ["summary", "nope"], ["compare", "a", "b"]])
def test_a_folder_that_is_not_there_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main([*arguments, "--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["summary", "."], ["compare", "", ""], ["compare", ".", "."]])
def test_a_folder_without_runs_is_one_sentence_and_nothing_is_written_there(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert results.main(arguments) != 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_table_that_cannot_be_written_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    folder = make_results(tmp_path, compare_matrix()[:1], epochs=2)
    monkeypatch.setattr(results, "write_atomic", full)
    assert results.main(["summary", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "LeNet-5" in out and err.splitlines()[-1].endswith("not written: No space left on device")


@pytest.mark.parametrize("command", [["results.py", "summary"], ["kconfig.py", "list-defconfigs"]])
def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path, command: list[str]) -> None:
    given = [str(make_results(tmp_path, compare_matrix(), epochs=2))] if command[0] == "results.py" else []
    words = [sys.executable, str(ROOT / "scripts" / command[0]), *command[1:], *given]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tool:
        tool.stdout.close()
        assert tool.stderr.read() == ""
    assert tool.returncode == 0


def test_a_narrow_terminal_goes_without_the_least_needed_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["adamw", "98.50", "12.0"]]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    text_table.print_table(["optimizer", "accuracy", "seconds"], rows, {0}, (2,))
    out = capsys.readouterr().out
    assert "98.50" in out and "12.0" not in out and "Too narrow for: seconds." in out
    assert max(map(len, out.splitlines()[:3])) <= 20
