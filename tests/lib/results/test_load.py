"""Whatever a results folder holds, it is read, and tables are made of what can be made out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.results import load, plot_data, summary
from tests.helpers.fake_results import make_results, make_run

FILES = ("config.yaml", "metrics.jsonl", "gpu.jsonl", "status.json", "summary.json", "matrix.yaml", "environment.json")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [("adamw", "none", 0.0), ("adamwprune", "state", 0.7)]
    folder = make_results(tmp_path_factory.mktemp("whole"), runs, epochs=2)
    machine = {"device": "cpu", "cores": 2, "versions": {"torch": "2.11"}, "git": {"commit": "a", "dirty": False}}
    (folder / "environment.json").write_text(json.dumps(machine))
    return folder


def survives(folder: Path, name: str, content: bytes) -> None:
    """Put this into a file of the folder, read the folder in every way there is, and put back what was there."""
    path = path_of(folder, name)
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        found = load.load(folder)
        summary.to_markdown(found)
        summary.to_csv(found)
        plot_data.shrink(found)
    finally:
        path.write_bytes(before)


def path_of(folder: Path, name: str) -> Path:
    run = folder / "lenet5_adamwprune_state_70" / name
    return run if run.exists() else folder / name


@settings(max_examples=30)
@given(name=st.sampled_from(FILES), content=st.binary(max_size=60))
@example(name="config.yaml", content=b"a: !!bool x")  # PyYAML itself trips over it
def test_random_bytes_in_place_of_any_file_stop_no_table(whole: Path, name: str, content: bytes) -> None:
    survives(whole, name, content)


def each_replaced(record: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The record with one of its fields, or of the records within, replaced: one after the other."""
    for key, held in record.items():
        yield record | {key: value}
        if isinstance(held, dict):
            yield from (record | {key: inner} for inner in each_replaced(held, value))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=6)
@given(value=ANYTHING)
@example(value=[1])
def test_a_value_of_the_wrong_type_in_any_field_stops_no_table(whole: Path, name: str, value: Any) -> None:
    text = path_of(whole, name).read_text()
    load, dump = (yaml.safe_load, yaml.safe_dump) if name.endswith(".yaml") else (json.loads, json.dumps)
    records = [load(line) for line in text.splitlines()] if name.endswith(".jsonl") else [load(text)]
    for last in [value, *each_replaced(records[-1], value)]:
        survives(whole, name, "".join(f"{dump(record)}\n" for record in (*records[:-1], last)).encode())


def test_torn_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "sgd", "movement", 0.7, 2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 11, "test_acc')
    (folder / "config.yaml").write_text("model: [")
    (folder / "summary.json").write_text('{"final_accuracy": 9')
    run = load.load_run(folder)
    assert (run.model, run.optimizer, run.method, run.target_sparsity, run.seed) == (
        "lenet5",
        "sgd",
        "movement",
        0.7,
        2,
    )
    assert (len(run.metrics), run.dropped) == (10, 1)
    assert run.final_accuracy == run.metrics[-1]["test_accuracy"]


def test_an_epoch_written_twice_counts_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 10, "test_accuracy": 12.5}\n')
    run = load.load_run(folder)
    assert run.column("epoch") == list(range(1, 11))
    assert run.column("test_accuracy")[-1] == 12.5


def test_a_run_folder_that_is_a_link_is_named_and_not_read(tmp_path: Path) -> None:
    folder = make_results(tmp_path, [("adamw", "none", 0.0)], epochs=2)
    others = make_run(tmp_path / "others", "adamwprune", "state", 0.9, epochs=2)
    (folder / others.name).symlink_to(others)
    results = load.load(folder)
    linked = next(run for run in results.runs if run.name == others.name)
    assert (linked.metrics, linked.samples, linked.summary, linked.path) == ([], [], {}, None)
    assert (linked.model, linked.optimizer, linked.target_sparsity) == ("lenet5", "adamwprune", 0.9)
    assert results.exclusions() == [f"{others.name}: not read: the folder is a symbolic link, which is not followed"]
    assert "done" in {run.state for run in load.load(others).runs}  # a link or a folder that the user names is read
    (tmp_path / "mine").symlink_to(folder)
    assert load.load(tmp_path / "mine").runs[0].is_complete
