"""Plain `make`, from the first step of training to the report, where nothing about the place is ordinary."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.make_runner import copy_tree, epochs, only_run, status


def test_one_make_trains_draws_and_reports_in_an_odd_place_through_a_linked_config(tmp_path):
    place = tmp_path / ("ein \"Baum\" mit 'Leerzeichen' und Ümläuten " + 160 * "x")
    assert len(place.name) > 200
    tree, elsewhere = copy_tree(place), tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = elsewhere / "my config"
    real.write_text("")
    (tree / ".config").symlink_to(real)

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(tree), f"PYTHON={sys.executable}", *words]
        return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=300)

    assert make("defconfig-lenet5").returncode == 0
    small = ["EPOCHS=1", "DATASET=synthetic", "TRAIN_IMAGES=128", "DEVICE=cpu", "THREADS=1"]
    done = make(*small, "MONITOR=y", "MONITOR_INTERVAL=0.1")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "LeNet-5  AdamW" in done.stdout and "Synthetic images" in done.stdout
    folder = only_run(tree / "results")
    assert status(folder)["state"] == "done" and epochs(folder) == [1]
    assert (folder / "model.safetensors").exists() and (folder / "gpu.jsonl").stat().st_size > 0
    made = {path.name for path in folder.parent.iterdir()}
    assert {"summary.csv", "summary.md", "report.html", "graphs", "matrix.yaml", "config", "environment.json"} <= made
    pictures = [path.read_bytes() for path in (folder.parent / "graphs").glob("*.png")]
    assert len(pictures) > 5 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert (folder.parent / "report.html").read_text().count("data:image/png") == len(pictures)
    assert (tree / ".config").readlink() == real and 'CONFIG_PRESET="lenet5"' in real.read_text()
    assert list(elsewhere.iterdir()) == [real] and not (tree / "images").exists()
