"""The report is one page that holds everything, harms nobody, and works in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lib.report import html
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
    drawn.write_bytes(b"png")
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
    assert section.count("old line") == html.LOG_LINES - 1
    assert f"--config {folder}/lenet5_adamw_none/config.yaml" in section
    assert section.startswith(" open")


def test_repeat_command_is_one_that_train_py_reads(folder: Path) -> None:
    from lib.training import main

    words = html.command_of(load(folder).runs[0]).split()
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
    assert html.drawn_pictures(folder, results, "lenet5") == {"drawn_before.png": b"png"}
    os.utime(folder / "lenet5_sgd_none" / "metrics.jsonl", (later := time.time() + 20, later))
    assert html.drawn_pictures(folder, results, "lenet5") is None
