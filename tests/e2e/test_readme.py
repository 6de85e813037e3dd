"""What README and docs tell people to type and to follow: examples run, targets exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lib.config.matrix import load_matrix
from lib.storage.project import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/findings.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def python_blocks(page: Path) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


def run_example(code: str, folder: Path) -> str:
    """Run code in a folder of its own, with the library under the name that it is installed as."""
    as_installed = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import lib; sys.modules['adamwprune'] = lib\n"
    command = [sys.executable, "-c", as_installed + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead to no file, or to no heading of it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    return broken


def test_the_training_loop_of_the_readme_works_as_printed(tmp_path: Path) -> None:
    sparsity, *_ = run_example(python_blocks(ROOT / "README.md"), tmp_path).split()
    assert float(sparsity) == pytest.approx(round(0.7 * 1408) / 1408)


def test_the_examples_of_the_optimizer_page_work_as_printed(tmp_path: Path) -> None:
    run_example(python_blocks(ROOT / "docs" / "optimizer.md"), tmp_path)


def test_the_readme_fits_150_lines() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, at 90 %\n[x](#a-heading-at-90-) [web](https://a.b) [no](no.md) [none](page.md#b)\n")
    assert broken_links(page) == ["no.md", "page.md#b"]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?:`|^|&& )make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    presets = {f"defconfig-{path.name}" for path in (ROOT / "defconfigs").iterdir()}
    assert named <= targets | presets | {"defconfig-"}  # `make defconfig-<name>`


def preset_commands(page: Path) -> list[tuple[str, str]]:
    """Each preset that a page trains and what follows `make` then: `make defconfig-NAME && make NAME=value ...`."""
    text = page.read_text()
    followed = r"make defconfig-([a-z0-9-]+)(?: +&&\s+|\n)make\b((?:\s+[A-Z0-9_]+=(?:\"[^\"]*\"|[^\s`\"]+))*)"
    return re.findall(followed, text)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_preset_is_trained_by_a_command_that_is_accepted(page: Path) -> None:
    for preset, words in preset_commands(page):
        overrides = dict(word.split("=", 1) for word in shlex.split(words))
        _symbols, runs = load_matrix(ROOT, ROOT / "defconfigs" / preset, overrides)
        assert runs, f"{preset}{words}"


def test_no_command_of_the_findings_escapes_that_test() -> None:
    for page in (page for page in PAGES if page.name == "findings.md"):
        assert len(preset_commands(page)) == page.read_text().count("make defconfig-") > 0


# what docs/extending.md adds to a tree
TO_BE_WRITTEN = {
    "lib/optimizers/lion.Kconfig",
    "lib/optimizers/lion.py",
    "lib/pruning/random.Kconfig",
    "lib/pruning/random.py",
}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_of_the_tree_that_is_named_exists(page: Path) -> None:
    below = r"(?<![\w/.])((?:lib|scripts|tests|docs|defconfigs)/[\w/.-]*\w)(?![\w*<{])"
    named = set(re.findall(below, page.read_text())) - TO_BE_WRITTEN
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_no_page_holds_the_marks_of_a_conflict(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(), re.MULTILINE)
