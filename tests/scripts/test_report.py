"""`make report` as users meet it: in a terminal, and in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import report
from tests.helpers.fake_results import make_results, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1400,1400",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runs = [("sgd", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]
    made = make_results(tmp_path, runs, epochs=4)
    make_run(made, "adamw", "none", state="failed", reason="out of memory", epochs=4)
    return made


def test_a_folder_without_runs_gets_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x-20240101-120000"
    folder.mkdir()
    assert report.main([str(folder)]) == 1
    assert capsys.readouterr().err == f"{folder}: no runs in this folder\n"
    assert not list(folder.iterdir())


def test_missing_folder_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def chromium(tmp_path: Path, page: Path, *flags: str) -> str:
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (on Debian: apt-get install chromium)")
def test_a_browser_shows_the_page_and_sorts_its_table(folder: Path, tmp_path: Path) -> None:
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
