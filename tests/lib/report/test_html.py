"""The report is one page that holds everything, harms nobody, and works in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lib.report import html
from lib.report.received import PNG
from lib.report.run_section import LOG_LINES, command_of
from lib.results.load import load
from lib.storage.project import ROOT
from tests.helpers.fake_results import make_results, make_run

HOSTILE = "<script>alert('x')</script> \"quoted\" & ${body} $title"
RUNS = [("sgd", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]


class Page(HTMLParser):
    """Checks nesting, collects ids and every address the page would load or go to."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = make_results(tmp_path, RUNS, epochs=4)
    failed = make_run(made, "adamw", "none", state="failed", reason=HOSTILE, epochs=4)
    (failed / "log.txt").write_text("old line\n" * 5000 + f"last words: {HOSTILE}\n")
    (made / "graphs").mkdir()
    drawn = made / "graphs" / "drawn_before.png"
    drawn.write_bytes(PNG)
    os.utime(drawn, (later := time.time() + 10, later))  # newer than the runs: taken as it is
    (made / "config").write_text('CONFIG_OPTIMIZER_SGD=y\n# CONFIG_MODEL_RESNET18 is not set\nCONFIG_PRESET="x"\n')
    return made


def test_page_is_well_formed_and_loads_nothing_from_outside(folder: Path) -> None:
    text = html.build(folder)
    page = Page(text)
    assert not page.open
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert not re.search(r"https?://", text)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_values_are_escaped_wherever_they_stand(folder: Path) -> None:
    config = folder / "lenet5_sgd_none" / "config.yaml"
    config.write_text(config.read_text() + f"label: {json.dumps(HOSTILE)}\n")
    (folder / "environment.json").write_text(json.dumps({"device": HOSTILE, "versions": {"torch": HOSTILE}}))
    text = html.build(folder)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert" in text and "${body} $title" in text


def test_failed_run_shows_its_reason_the_end_of_its_log_and_how_to_repeat_it(folder: Path) -> None:
    text = html.build(folder)
    section = text.split('id="lenet5_adamw_none"')[1].split("<details id=")[0]
    assert "failed: " in section and "last words" in section
    assert section.count("old line") == LOG_LINES - 1
    assert f"--config {folder}/lenet5_adamw_none/config.yaml" in section
    assert section.startswith(" open")


def test_repeat_command_is_one_that_train_py_reads(folder: Path) -> None:
    from lib.training import main

    words = command_of(load(folder).runs[0]).split()
    assert words[:3] == ["python", "-m", "lenet5.train"]
    assert (ROOT / "lenet5" / "train.py").is_file()
    assert {word for word in words if word.startswith("--")} == {"--config", "--output"} and main.main


def test_page_holds_configuration_machine_table_and_all_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "graphs")
    text = html.build(folder)
    for wanted in ("CONFIG_OPTIMIZER_SGD=y", "torch", "state at peak", "3 of 4 runs done", "accuracy % (last epoch)"):
        assert wanted in text, wanted
    assert "is not set" not in text
    assert text.count("<img") >= 14


def test_pictures_of_graphs_are_taken_unless_a_run_has_written_since(folder: Path) -> None:
    results = load(folder)
    assert html.drawn_pictures(folder, results, "lenet5") == {"drawn_before.png": PNG}
    os.utime(folder / "lenet5_sgd_none" / "metrics.jsonl", (later := time.time() + 20, later))
    assert html.drawn_pictures(folder, results, "lenet5") is None


def test_page_opens_with_what_came_out(folder: Path) -> None:
    text = html.build(folder)
    opening = text.split("<h2")[0]
    assert "LeNet-5: the highest mean test accuracy at 70 % sparsity is " in opening
    assert "One seed each" in opening


def test_measured_inference_is_a_table_with_units_and_no_dump(folder: Path) -> None:
    path = folder / "lenet5_sgd_none" / "summary.json"
    batches = [
        {"batch_size": 1, "images_per_second": 1234.56, "latency_ms": 0.81, "tensor_peak": 2 * 2**20},
        {"batch_size": 256, "images_per_second": 98765.4, "latency_ms": 2.6, "tensor_peak": 3 * 2**20},
    ]
    measured = {"checkpoint_bytes": 4 * 2**20, "compressed_bytes": 2**20, "batches": batches}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inference": measured}))
    section = html.build(folder).split('id="lenet5_sgd_none"')[1].split("<details id=")[0]
    for wanted in ("images per second", "latency per batch, ms", "tensors at peak, MiB", "98,765.4", ">3.00<"):
        assert wanted in section, wanted
    assert "Stored weights: 4.00 MiB, 1.00 MiB after zlib." in section
    assert "tensor_peak" not in section and "allocator peak" not in section


@pytest.mark.parametrize(
    "name",
    ["lenet5_sgd_none/log.txt", "lenet5_sgd_none/summary.json", "environment.json", "config", "graphs/stolen.png"],
)
def test_a_link_in_a_received_folder_is_not_read_into_the_page(folder: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_bytes(b'{"key": "MY_SECRET"}' if name.endswith(".json") else PNG + b"CONFIG_OF_MY_SECRET")
    later = time.time() + 20
    os.utime(secret, (later, later))
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    text = html.build(folder)
    assert "MY_SECRET" not in text and base64.b64encode(secret.read_bytes()).decode() not in text


def test_a_linked_folder_of_graphs_is_not_read_into_the_page(folder: Path, tmp_path: Path) -> None:
    (folder / "graphs").rename(tmp_path / "others")
    (folder / "graphs").symlink_to(tmp_path / "others")
    assert "drawn before" not in html.build(folder)


def test_a_linked_run_folder_is_named_in_the_page_and_not_read(folder: Path, tmp_path: Path) -> None:
    secret = (folder / "lenet5_sgd_none").rename(tmp_path / "others")
    (secret / "log.txt").write_text("MY_SECRET")
    (folder / "lenet5_sgd_none").symlink_to(secret)
    text = html.build(folder)
    assert "MY_SECRET" not in text and not Page(text).open
    assert "not read: the folder is a symbolic link" in text


def test_a_picture_is_one_by_its_first_bytes(folder: Path) -> None:
    stolen = folder / "graphs" / "a.png"
    stolen.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    os.utime(stolen, (later := time.time() + 20, later))
    assert base64.b64encode(stolen.read_bytes()).decode() not in html.build(folder)


def test_a_fifo_in_place_of_a_log_is_not_waited_for(folder: Path) -> None:
    log = folder / "lenet5_sgd_none" / "log.txt"
    log.unlink()
    os.mkfifo(log)
    assert "lenet5_sgd_none" in html.build(folder)


def test_values_that_nothing_can_show_cost_their_own_runs_section_alone(folder: Path) -> None:
    shutil.rmtree(folder / "graphs")
    path = folder / "lenet5_sgd_none"
    summary = json.loads((path / "summary.json").read_text())
    deep: object = 1
    for _ in range(400):
        deep = {"a": deep}
    (path / "summary.json").write_text(json.dumps(summary | {"deep": deep, "final_accuracy": 1e300, "seconds": 1e300}))
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"started": 1e300}))
    text = html.build(folder)
    assert not Page(text).open
    assert "lenet5_adamwprune_state_70" in text and text.count("<details id=") == 4
