"""`make update-graphs` as users meet it."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lib import plots
from lib.report.publish import from_images, from_results
from lib.results import load, memory_estimates
from lib.storage.project import ROOT
from scripts import report, results, update_graphs
from tests.helpers.fake_results import compare_matrix, make_results, make_run, make_study

FEW = [("adamw", "none", 0.0), ("adamwprune", "state", 0.7)]


ALL_PICTURES = plots.PICTURES


@pytest.fixture(autouse=True)
def two_pictures_and_no_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens to files does not depend on how many pictures there are; predictions take seconds of torch."""
    monkeypatch.setattr(plots, "PICTURES", ALL_PICTURES[:1] + ALL_PICTURES[-1:])
    monkeypatch.setattr(memory_estimates, "predict", lambda results: None)


def run(tmp_path: Path, *arguments: str) -> int:
    return update_graphs.main([*arguments, "--root", str(tmp_path / "results"), "--images", str(tmp_path / "images")])


def test_pictures_go_into_the_results_and_into_images_with_their_data(tmp_path: Path) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=3)
    assert run(tmp_path) == 0
    graphs = {path.name: path.read_bytes() for path in (folder / "graphs").iterdir()}
    images = {path.name: path.read_bytes() for path in (tmp_path / "images" / "lenet5").iterdir()}
    assert images.pop("data.json")
    assert graphs == images and "adamwprune_model_comparison.png" in graphs


def test_a_fresh_clone_redraws_the_same_bytes_from_the_data(tmp_path: Path) -> None:
    make_results(tmp_path / "results", FEW, epochs=3)
    run(tmp_path)
    shutil.rmtree(tmp_path / "results")
    images = tmp_path / "images" / "lenet5"
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    for path in images.glob("*.png"):
        path.unlink()
    assert run(tmp_path) == 0
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_older_pictures_go_and_other_files_stay(tmp_path: Path) -> None:
    images = tmp_path / "images" / "lenet5"
    images.mkdir(parents=True)
    for name in ("sgd_model_comparison.png", "importance_histograms.png", "logo.png"):
        (images / name).write_bytes(b"old")
    make_results(tmp_path / "results", [("adamw", "none", 0.0)], epochs=2)
    assert run(tmp_path) == 0
    assert not (images / "sgd_model_comparison.png").exists()
    assert not (images / "importance_histograms.png").exists()
    assert (images / "logo.png").read_bytes() == b"old"


def test_fewer_runs_than_are_published_take_their_place_only_if_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    assert from_results(make_results(tmp_path / "a", FEW), images) == 0
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    assert "were of" not in capsys.readouterr().out
    smaller = make_results(tmp_path / "b", FEW[:1])
    assert from_results(smaller, images) == 0
    out = capsys.readouterr().out
    assert f"not published in {images}/lenet5: there are lenet5-compare's, of {len(FEW)} runs" in out
    assert f"`make update-graphs DIR={smaller} PUBLISH=y`" in out
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before
    assert list((smaller / "graphs").glob("*.png"))
    assert from_results(smaller, images, publish=True) == 0
    assert f"were of lenet5-compare, {len(FEW)} runs; now they are of lenet5-compare, 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        ({"chosen_by": "menuconfig"}, "not made from a preset"),
        ({"chosen_by": "mine.yaml"}, "not made from a preset"),
        ({"overrides": {"EPOCHS": "1"}}, "EPOCHS changed the preset"),
        ({"runs": ["lenet5_adamw_none", "lenet5_sgd_none"]}, "not all of its runs are done"),
    ],
)
def test_what_is_no_presets_full_run_is_published_only_if_asked_for(
    tmp_path: Path, matrix: dict, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=2)
    recorded = yaml.safe_load((folder / "matrix.yaml").read_text())
    (folder / "matrix.yaml").write_text(yaml.safe_dump(recorded | matrix))
    assert run(tmp_path) == 0
    assert reason in capsys.readouterr().out
    assert list((folder / "graphs").glob("*.png")) and not (tmp_path / "images").exists()
    assert run(tmp_path, "--publish", "y") == 0
    assert (tmp_path / "images" / "lenet5" / "data.json").is_file()


def test_a_data_folder_and_more_seeds_do_not_keep_a_preset_from_being_published(tmp_path: Path) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=2)
    recorded = yaml.safe_load((folder / "matrix.yaml").read_text())
    (folder / "matrix.yaml").write_text(yaml.safe_dump(recorded | {"overrides": {"DATA_DIR": "/data", "SEEDS": "1"}}))
    assert run(tmp_path) == 0
    assert (tmp_path / "images" / "lenet5" / "data.json").is_file()


@pytest.mark.parametrize(("dataset", "is_told"), [("mnist", False), ("image_folder", True)])
def test_published_data_name_a_data_folder_only_where_the_images_are_ones_own(
    tmp_path: Path, dataset: str, is_told: bool
) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=2, dataset=dataset)
    assert run(tmp_path) == 0
    without = (tmp_path / "images" / "lenet5" / "accuracy_per_epoch.png").read_bytes()
    recorded = yaml.safe_load((folder / "matrix.yaml").read_text())
    (folder / "matrix.yaml").write_text(yaml.safe_dump(recorded | {"overrides": {"DATA_DIR": "/scratch/me"}}))
    assert run(tmp_path) == 0
    images = tmp_path / "images" / "lenet5"
    assert ("/scratch/me" in (images / "data.json").read_text()) == is_told
    assert ((images / "accuracy_per_epoch.png").read_bytes() != without) == is_told
    assert (folder / "graphs" / "accuracy_per_epoch.png").read_bytes() != without  # one's own say how to repeat it


@pytest.mark.parametrize("name", ["/home/other/x", "../..", "a/b", "-x", ".hidden", "touch x #"])
@pytest.mark.parametrize("field", ["model", "optimizer", "pruning_method", "variant"])
def test_a_name_in_a_received_folder_leads_nowhere_outside(tmp_path: Path, field: str, name: str) -> None:
    run_folder = make_run(tmp_path / "results" / "lenet5-compare-20240101-120000", epochs=2)
    config = yaml.safe_load((run_folder / "config.yaml").read_text()) | {field: name}
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    found = load.load_run(run_folder)
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.+-]*", str(found.config[n])) for n in ("model", "optimizer", field))


@pytest.mark.parametrize("link", ["graphs", "graphs/lenet5", "graphs/accuracy_per_epoch.png"])
def test_nothing_is_written_or_removed_through_a_link_below_a_results_folder(
    tmp_path: Path, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=2)
    if link == "graphs/lenet5":
        make_run(folder, "adamw", model="resnet18", epochs=2)
    others = tmp_path / "others"
    others.mkdir()
    for name in ("accuracy_per_epoch.png", "sgd_model_comparison.png"):
        (others / name).write_bytes(b"precious")
    planted = folder / link
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(others / planted.name if planted.suffix else others)
    assert run(tmp_path) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and str(planted) in err and "is a link" in err
    assert {path.name: path.read_bytes() for path in others.iterdir()} == {
        "accuracy_per_epoch.png": b"precious",
        "sgd_model_comparison.png": b"precious",
    }
    assert not list(folder.rglob("*.tmp"))


def test_without_a_finished_run_images_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "results" / "x-20240101-120000", state="failed", reason="out of memory")
    assert run(tmp_path) == 0
    assert not (tmp_path / "images").exists()
    assert "out of memory" in capsys.readouterr().out


def test_only_results_leaves_images_alone(tmp_path: Path) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=2)
    assert run(tmp_path, "--only-results") == 0
    assert list((folder / "graphs").glob("*.png")) and not (tmp_path / "images").exists()


def test_two_models_get_a_folder_each(tmp_path: Path) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=2)
    make_run(folder, "adamw", model="resnet18", epochs=2)
    assert run(tmp_path) == 0
    assert {path.name for path in (folder / "graphs").iterdir()} == {"lenet5", "resnet18"}
    assert (tmp_path / "images" / "resnet18" / "data.json").is_file()


def test_a_model_without_variants_in_a_study_leaves_its_published_pictures_alone(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "results", seeds=2)
    make_run(folder, "adamw", model="resnet18")
    assert from_results(folder, tmp_path / "images") == 0
    assert [path.name for path in (tmp_path / "images" / "resnet18").iterdir()] == ["lenet5-compare"]


def test_a_study_has_a_folder_to_itself_and_is_redrawn_from_there(tmp_path: Path) -> None:
    images = tmp_path / "images"
    assert from_results(make_study(tmp_path / "results"), images) == 0
    assert [path.name for path in (images / "lenet5").iterdir()] == ["lenet5-compare"]
    assert {path.name for path in (images / "lenet5/lenet5-compare").iterdir()} == {"variants.png", "data.json"}
    picture = images / "lenet5" / "lenet5-compare" / "variants.png"
    before = picture.read_bytes()
    picture.unlink()
    assert from_images(images) == 0
    assert picture.read_bytes() == before


def test_of_a_study_that_changes_memory_the_pictures_of_memory_are_published_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "PICTURES", ALL_PICTURES)
    folder = make_study(tmp_path / "results", seeds=2)
    for path in folder.glob("*_obd_*/summary.json"):
        summary = json.loads(path.read_text())
        summary["memory_peak"]["optimizer_state"] //= 8
        path.write_text(json.dumps(summary))
    assert from_results(folder, tmp_path / "images") == 0
    published = {path.name for path in (tmp_path / "images" / "lenet5" / "lenet5-compare").iterdir()}
    assert published == {
        "variants.png", "memory_by_category.png", "memory_vs_accuracy_scatter.png", "gpu_memory_comparison.png",
        "data.json",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["nope"], ["--only-results"]])
def test_nothing_to_draw_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_39_runs_take_less_than_20_seconds_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PICTURES", ALL_PICTURES)
    make_results(tmp_path / "results", compare_matrix(), epochs=20)
    start = time.process_time()
    assert run(tmp_path) == 0
    assert time.process_time() - start < 20


def test_torn_lines_and_nul_bytes_cost_these_lines_only_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=3)
    for name in ("metrics.jsonl", "gpu.jsonl"):
        with (folder / "lenet5_adamw_none" / name).open("ab") as file:
            file.write(bytes(512) + b"\n" + b'{"epoch": 4, "time": 17')
    assert run(tmp_path) == 0
    assert report.main([str(folder)]) == 0
    assert results.main(["summary", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "4 torn lines were left out" in out and err == ""
    for told in (folder / "summary.md", folder / "report.html"):
        assert "4 torn lines were left out" in told.read_text()
    assert load.load_run(folder / "lenet5_adamw_none").column("epoch") == [1, 2, 3]


@pytest.mark.parametrize(
    ("script", "words", "limit"),
    [("update_graphs.py", ["--images", "images"], 20_000), ("report.py", [], 4_000), ("results.py", ["summary"], 400)],
)
def test_a_full_disk_leaves_all_files_as_they_were_and_is_one_sentence_and_exit_code_1(
    tmp_path: Path, script: str, words: list[str], limit: int
) -> None:
    folder = make_results(tmp_path / "results", FEW[:1], epochs=3)
    passes = {"start": {"pass": {"weights": 1_000_000}}}
    (folder / memory_estimates.FILE).write_text(json.dumps([{"run": "lenet5_adamw_none", "stages": passes}]))
    assert run(tmp_path) == report.main([str(folder)]) == results.main(["summary", str(folder)]) == 0
    products = [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".html", ".md", ".csv")]
    assert len(products) >= 5
    for path in products:
        path.write_bytes(b"old")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-B", str(ROOT / "scripts" / script), *words, str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "File too large" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_predicted_peaks_are_kept_and_shown_beside_the_measured_ones(tmp_path: Path) -> None:
    folder = make_results(tmp_path / "results", FEW, epochs=2)
    passes = ({"weights": 1_000_000, "data": 9}, {"weights": 1_000_000, "activations": 11_000_000, "temporary": 9})
    stages = {name: {"pass": held} for name, held in zip(("start", "ramp"), passes, strict=True)}
    entries = [{"run": path.name, "stages": stages} for path in folder.iterdir() if path.is_dir()]
    (folder / memory_estimates.FILE).write_text(json.dumps(entries))
    results = memory_estimates.with_predictions(load.load(folder))
    assert {run.summary["memory_predicted"] for run in results.runs} == {12_000_000}
    assert run(tmp_path) == 0
    assert '"memory_predicted":12000000' in (tmp_path / "images" / "lenet5" / "data.json").read_text()
