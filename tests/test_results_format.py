"""docs/results-format.md is whole: a results folder holds no file and no key that the page does not name."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.storage.files import read_json, read_json_lines
from lib.storage.project import ROOT
from lib.storage.safe_yaml import parse_yaml

PAGE = (ROOT / "docs" / "results-format.md").read_text()
# the tree at the top of the page, and everything in backticks
NAMED = set(re.findall(r"[\w.]+", " ".join(re.findall(r"```.*?```|`[^`]+`", PAGE, re.DOTALL))))
ARGUMENTS = ("DATASET=mnist5k", "OPTIMIZER=adamwprune", "PRUNING_METHOD=state", "EPOCHS=1", "TRAIN_IMAGES=300")
FREE = ("overrides", "layer_sparsity", "versions", "environment")  # their keys are other names: symbols, tensors, ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    more = ("PRUNING_INTERVAL=1", "VALIDATION_IMAGES=50", "INFERENCE_TEST=y", "MONITOR_INTERVAL=0.1")
    command = [sys.executable, "scripts/run_matrix.py", *ARGUMENTS, *more, f"RESULTS_DIR={root}", "PRESET=tiny"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return (root / "latest").resolve()


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from keys(item)
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from () if key in FREE else keys(item)


def test_every_file_is_named(folder: Path) -> None:
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    found = {path.name for path in [*folder.iterdir(), *run.iterdir()]} - {run.name}
    assert {"metrics.jsonl", "matrix.yaml"} <= found and found - NAMED == set()


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl", "gpu.jsonl", "summary.json"])
def test_every_key_of_a_run_is_named(folder: Path, name: str) -> None:
    (path,) = folder.glob(f"*/{name}")
    records = [read_json(path)] if name.endswith(".json") else read_json_lines(path)[0]
    found = set(keys(records))
    assert len(found) > 3 and found - NAMED == set()


def test_every_key_of_the_matrix_is_named(folder: Path) -> None:
    found = {*keys(parse_yaml((folder / "matrix.yaml").read_text())), *keys(read_json(folder / "environment.json"))}
    assert {"runs", "git"} <= found and found - NAMED == set()


def test_every_column_of_the_summary_is_named(folder: Path) -> None:
    with (folder / "summary.csv").open(newline="") as file:
        columns = {name.removesuffix("_mean").removesuffix("_sd") for name in next(csv.reader(file))}
    assert "accuracy" in columns and columns - NAMED == set()
