"""What the runner shows: whole cells at every width, and progress from the first steps on."""

from __future__ import annotations

import io
import time
from functools import cache

import pytest
from rich.console import Console

from lib.config.matrix import load_matrix
from lib.config.run_config import RunConfig
from lib.runner.live_table import COLUMNS, LEAST_NEEDED, Live, Plain
from lib.runner.row import ELSEWHERE, Row, seconds_left
from lib.storage.files import append_json
from lib.storage.project import ROOT
from lib.storage.run_dir import RunDir

PRESETS = sorted(path.name for path in (ROOT / "defconfigs").iterdir())
WIDTHS = (60, 80, 100, 120)
HEADINGS = [column.heading for column in COLUMNS]


@cache
def runs_of(preset: str) -> list[RunConfig]:
    """The runs of a preset with the longest names, which end in `_seed10`."""
    _, runs = load_matrix(config_file=ROOT / "defconfigs" / preset, overrides={"SEEDS": "2", "SEED": "9"})
    return sorted(runs, key=lambda run: -len(run.run_id))[:40]


def rows_of(preset: str, tmp_path) -> list[Row]:
    """Rows in every state, with the widest values that are to be expected."""
    states = ("done", "running", ELSEWHERE, "diverged", "queued", "failed")
    rows = [
        Row(RunDir(tmp_path / config.run_id), config, states[i % len(states)])
        for i, config in enumerate(runs_of(preset))
    ]
    for row in rows:
        row.record = {"test_accuracy": 100.0, "sparsity": 0.9}
        row.images_per_second = 123_456.0
        row.took, row.began = 35_999.0, time.monotonic() - 35_999.0
        row.epoch, row.fraction = row.config.epochs - 1, 0.9
    return rows


def rendered(rows: list[Row], width: int) -> list[str]:
    console = Console(width=width, height=60, file=io.StringIO(), force_terminal=False)
    view = Live(rows, 2, console)
    with console.capture() as captured:
        console.print(view.table())
    return captured.get().splitlines()


def headings(rows: list[Row], width: int) -> list[str]:
    first = rendered(rows, width)[0]
    return [heading for heading in HEADINGS if heading in first]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_is_cut_or_wrapped_at_any_width(preset: str, width: int, tmp_path) -> None:
    rows = rows_of(preset, tmp_path)
    heading, rule, *lines = rendered(rows, width)
    assert max(map(len, (heading, rule, *lines))) <= width
    assert not any("…" in line for line in (rule, *lines))
    names = {row.run.name.removeprefix(f"{row.config.model}_" if "_…" in heading else "") for row in rows}
    table = [line.split() for line in lines if line.split()[0] in names]
    assert len(table) == len(rows)
    columns = headings(rows, width)
    assert columns[0] == "state"
    assert all(len(cells) == 1 + len(columns) for cells in table if cells[1] != "queued")


@pytest.mark.parametrize("preset", PRESETS)
def test_columns_are_dropped_in_one_order(preset: str, tmp_path) -> None:
    rows = rows_of(preset, tmp_path)
    for width in (40, 50, 60, 70, 80, 90, 100):
        found = headings(rows, width)
        left_out = [heading for heading in LEAST_NEEDED if heading not in found]
        assert left_out == list(LEAST_NEEDED[: len(left_out)])
    assert headings(rows, 120) == HEADINGS


def test_the_quickstart_has_every_column_at_80(tmp_path) -> None:
    rows = [row for row in rows_of("quickstart", tmp_path) if row.config.seed == 9]
    for row in rows:
        row.state, row.run = "running", RunDir(tmp_path / row.run.name.removesuffix("_seed9"))
    assert headings(rows, 80) == HEADINGS


@pytest.fixture
def row(tmp_path) -> Row:
    """A run of two epochs that has just been started."""
    config = next(config for config in runs_of("lenet5") if config.epochs == 10)
    made = Row(RunDir(tmp_path / config.run_id), config, "queued")
    made.run.path.mkdir()
    made.begin()
    return made


def report(row: Row, step: int, epoch: int = 0) -> None:
    """Let the run tell how many steps are done after `epoch` epochs."""
    record = {"epoch": epoch + 1, "step": step, "steps": 100, "images_per_second": 1234.5, "time": time.time()}
    row.run.write_progress(record)
    row.refresh()


def test_time_left_and_speed_are_shown_before_the_first_epoch_is_over(row: Row) -> None:
    assert seconds_left([row], 1) is None
    report(row, 10)
    time.sleep(0.2)
    report(row, 20)
    left = seconds_left([row], 1)
    assert left is not None and left == pytest.approx(9.8 * 10 * 0.2, rel=0.5)
    cells = rendered([row], 120)[2].split()
    assert "0.2/10" in cells and "1,234" in cells


def test_steps_of_another_epoch_do_not_count(row: Row) -> None:
    report(row, 50, epoch=3)
    assert row.epochs_done == 0
    append_json(row.run.metrics, {"epoch": 1, "test_accuracy": 50.0, "sparsity": 0.0})
    report(row, 100)
    assert row.epochs_done == 1


def test_queued_runs_take_as_long_to_start_as_those_before_them(row: Row, tmp_path) -> None:
    assert row.began is not None
    row.began -= 7.0
    report(row, 50)
    time.sleep(0.1)
    report(row, 100)
    alone = seconds_left([row], 1)
    queued = Row(RunDir(tmp_path / "other"), row.config, "queued")
    both = seconds_left([row, queued], 1)
    assert alone is not None and both is not None
    assert both - alone == pytest.approx(7.0 + 10 * 0.2, abs=2.0)


def test_without_a_terminal_there_is_a_line_when_a_minute_has_passed_and_then_one_an_epoch(row: Row, capsys) -> None:
    view = Plain([row], 1)
    view.started(row)
    report(row, 10)
    view.refresh()
    assert capsys.readouterr().out == f"[0/1] {row.run.name}: started\n"
    view.every = 0.0
    time.sleep(0.05)
    report(row, 20)
    for _ in range(3):
        view.refresh()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"[0/1] {row.run.name}: epoch 0.2/10, ") and line.endswith(" left")
    append_json(row.run.metrics, {"epoch": 1, "test_accuracy": 50.0, "sparsity": 0.0})
    for _ in range(3):
        view.refresh()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"[0/1] {row.run.name}: epoch 1/10, accuracy 50.00 %, ") and line.endswith(" left")
    report(row, 50, epoch=1)
    view.refresh()
    assert capsys.readouterr().out == ""
    view.every = 60.0
    append_json(row.run.metrics, {"epoch": 2, "test_accuracy": 50.0, "sparsity": 0.0})
    view.refresh()
    assert capsys.readouterr().out == "", "epochs of less than a minute have no line each"


def test_what_others_have_written_into_a_folder_reaches_the_terminal_as_text(row: Row, capsys) -> None:
    row.end("failed", "RuntimeError: \x1b]0;owned\x07 and\na second line")
    Plain([row], 1).finished(row)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b]0;owned" in out and len(out.splitlines()) == 1
    console = Console(width=100, height=20, file=io.StringIO(), force_terminal=True)
    Live([row], 1, console).finished(row)
    assert "\x1b]0" not in console.file.getvalue()
