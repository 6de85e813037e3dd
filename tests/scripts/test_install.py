from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib.storage.project import ROOT
from scripts import install

SCRIPT = ROOT / "scripts" / "install.py"


def test_a_package_that_is_missing_is_named_and_nothing_is_installed(tmp_path, capsys):
    (tmp_path / "more.txt").write_text("no-such-package-a>=1 # why\n")
    (tmp_path / "all.txt").write_text("# comment\n\n-r more.txt\npytest>=1\nno_such_package_b\n")
    assert install.check(tmp_path / "all.txt") == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "lacks no-such-package-a, no_such_package_b:" in sentence


def test_an_environment_that_has_everything_passes(tmp_path, capsys):
    (tmp_path / "all.txt").write_text("pytest>=1\nhypothesis\n")
    assert install.check(tmp_path / "all.txt") == 0
    assert capsys.readouterr() == ("", "")


def environment(folder: Path) -> Path:
    """An environment that is there already: its python is the one that runs the tests."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.soak
def test_an_environment_is_made_where_there_is_none(tmp_path):
    (tmp_path / "none.txt").write_text("# nothing\n")
    command = [sys.executable, str(SCRIPT), "its own", "none.txt", "its own/.packages"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "its own" / "bin" / "python", "-m", "pip", "--version"], check=True)


def test_of_two_at_once_one_sets_up_and_both_find_it_ready(tmp_path):
    environment(tmp_path / "its own")
    (tmp_path / "none.txt").write_text("# nothing\n")
    command = [sys.executable, str(SCRIPT), "its own", "none.txt", "its own/.packages"]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(process.communicate(timeout=120)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert told.count("setting up") == 1
    assert (tmp_path / "its own" / ".packages").exists()


def test_packages_that_cannot_be_had_end_in_a_sentence_and_without_a_stamp(tmp_path):
    environment(tmp_path / ".venv")
    (tmp_path / "wrong.txt").write_text("./no-such-folder\n")
    command = [sys.executable, str(SCRIPT), ".venv", "wrong.txt", ".venv/.packages"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("the packages of wrong.txt could not be installed")
    assert not (tmp_path / ".venv" / ".packages").exists()


def test_a_folder_that_cannot_be_made_ends_in_a_sentence(tmp_path):
    (tmp_path / "venv").write_text("a file in its place")
    command = [sys.executable, str(SCRIPT), "venv", str(Path(__file__)), "venv/.packages"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
