"""Every command that shows results prints on a terminal of any encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.storage.project import ROOT
from tests.helpers.fake_results import make_results

RUNS = [("adamw", "none", 0.0), ("adamw", "magnitude", 0.7), ("adamwprune", "state", 0.7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("größe 模"), RUNS, seeds=2)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", ["results.py summary {}", "results.py compare {} {}", "report.py {}"])
def test_results_are_shown(words: str, encoding: str, folder: Path) -> None:
    script, *rest = words.split()
    arguments = [str(folder) if word == "{}" else word for word in rest]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert done.stdout.decode(encoding).strip() and b"Traceback" not in done.stderr
