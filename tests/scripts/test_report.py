"""The report is one page that holds everything, harms nobody, and works in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts import report
from tests.helpers.fake_results import make_results, make_run

HOSTILE = "<script>alert('x')</script> \"quoted\" & ${body} $title"
RUNS = [("sgd", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1400,1400",
]  # fmt: skip


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
    text = report.build(folder)
    page = Page(text)
    assert not page.open
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert not re.search(r"https?://", text)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_values_are_escaped_wherever_they_stand(folder: Path) -> None:
    config = folder / "lenet5_sgd_none" / "config.yaml"
    config.write_text(config.read_text() + f"label: {json.dumps(HOSTILE)}\n")
    (folder / "environment.json").write_text(json.dumps({"device": HOSTILE, "versions": {"torch": HOSTILE}}))
    text = report.build(folder)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert" in text and "${body} $title" in text


def test_failed_run_shows_its_reason_the_end_of_its_log_and_how_to_repeat_it(folder: Path) -> None:
    text = report.build(folder)
    section = text.split('id="lenet5_adamw_none"')[1].split("<details id=")[0]
    assert "failed: " in section and "last words" in section
    assert section.count("old line") == report.LOG_LINES - 1
    assert f"--config {folder}/lenet5_adamw_none/config.yaml" in section
    assert section.startswith(" open")


def test_repeat_command_is_one_that_train_py_reads(folder: Path) -> None:
    from lib.training import main

    words = report.command_of(report.load(folder).runs[0]).split()
    assert words[:3] == ["python", "-m", "lenet5.train"]
    assert (Path(report.ROOT) / "lenet5" / "train.py").is_file()
    assert {word for word in words if word.startswith("--")} == {"--config", "--output"} and main.main


def test_page_holds_configuration_machine_table_and_all_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "graphs")
    text = report.build(folder)
    for wanted in ("CONFIG_OPTIMIZER_SGD=y", "torch", "state B/weight", "3 of 4 runs done", "accuracy % (last epoch)"):
        assert wanted in text, wanted
    assert "is not set" not in text
    assert text.count("<img") >= 14


def test_pictures_of_graphs_are_taken_unless_a_run_has_written_since(folder: Path) -> None:
    results = report.load(folder)
    assert report._drawn(folder, results, "lenet5") == {"drawn_before.png": b"png"}
    os.utime(folder / "lenet5_sgd_none" / "metrics.jsonl", (later := time.time() + 20, later))
    assert report._drawn(folder, results, "lenet5") is None


def test_empty_folder_still_gives_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "x-20240101-120000"
    folder.mkdir()
    assert report.main([str(folder)]) == 0
    assert not Page((folder / "report.html").read_text()).open


def test_missing_folder_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def chromium(tmp_path: Path, page: Path, *flags: str) -> str:
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (on Debian: apt-get install chromium)")
def test_a_browser_shows_the_page_and_sorts_its_table(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "graphs")
    assert report.main([str(folder)]) == 0
    page = folder / "report.html"
    clicks = """<script>
      const head = name => [...document.querySelectorAll("th button")].find(b => b.textContent.startsWith(name));
      head("memory").click(); head("memory").click();
      const rows = [...document.querySelectorAll("table.sortable tbody tr")];
      document.title = rows.map(row => row.cells[8].textContent).join(" ")
        + "|" + [...document.images].every(i => i.naturalWidth > 500 || !i.complete);
    </script></body>"""
    probe = folder / "probe.html"
    probe.write_text(page.read_text().replace("</body>", clicks))
    dom = chromium(tmp_path, probe, "--dump-dom", "--virtual-time-budget=4000")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, dom[:500]
    values, whole = title[1].split("|")
    numbers = [float(value) for value in values.split() if value != "–"]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 3
    assert values.split()[-1] == "–", "a run without a figure sorts last"
    assert whole == "true"

    shot = tmp_path / "report.png"
    chromium(tmp_path, page, f"--screenshot={shot}")
    from matplotlib.image import imread

    pixels = imread(shot)
    assert pixels.shape[0] >= 1000 and pixels.std() > 0.05, "the page is blank"
