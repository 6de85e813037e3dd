"""`make bench` says what it measures, writes what it has measured, and refuses what it cannot measure."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from scripts import bench
from scripts.benchmarks import session
from scripts.benchmarks.interleaved import Round, Row, time_interleaved
from scripts.benchmarks.session import Progress, Session
from tests.helpers.run_train_py import wait_for


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rounds", "0"], "--rounds 0: at least 1 is expected"),
        (["speed"], "unknown part speed; there are optimizer, training"),
        (["--compare", "/nowhere.json"], "cannot read /nowhere.json"),
        (["--compare", "{}/list.json"], "list.json is no file of this command"),
        (["--device", "cuda"], "--device cuda: torch sees no GPU"),
    ],
)
def test_wrong_usage_is_exit_2_and_measures_nothing(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.json").write_text("[1, 2]")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(Session, "measure", lambda *_: pytest.fail("measured"))
    try:
        code = bench.main([word.format(tmp_path) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize("part", bench.PARTS)
def test_every_part_that_can_be_asked_for_is_there(part: str) -> None:
    assert callable(importlib.import_module(f"scripts.benchmarks.{session.PARTS[part]}").measure)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Put a comparison of nothing and then one of the given call in place of the part `loop`."""

    def put(call: Callable[[], object]) -> None:
        module = types.ModuleType("scripts.benchmarks.fake")

        def measure(device: torch.device, rounds: int) -> Iterator[Round | Row]:
            yield from time_interleaved("quick", {"a": int, "b": int}, rounds)
            yield from time_interleaved("slow", {"a": call}, rounds)

        module.measure = measure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "scripts.benchmarks.fake", module)
        monkeypatch.setitem(session.PARTS, "loop", "fake")

    threads = torch.get_num_threads()
    yield put
    torch.set_num_threads(threads)


def test_each_comparison_is_written_before_the_next_begins(
    part: Callable[[Callable[[], object]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, seen = tmp_path / "results" / "bench.json", []
    part(lambda: seen.append([row["name"] for row in json.loads(path.read_text())["rows"]]))
    assert Session(path, torch.device("cpu"), 2).measure(["loop"])
    assert seen == [["a", "b"]] * 3
    result = json.loads(path.read_text())
    assert result["complete"] and [row["part"] for row in result["rows"]] == ["quick", "quick", "slow"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "loop: preparing", "loop: quick: warming up for 2 rounds", "loop: slow: warming up for 2 rounds"
    ]  # fmt: skip


def test_ctrl_c_keeps_what_was_measured(part: Callable[[Callable[[], object]], None], tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    part(interrupt)
    path = tmp_path / "bench.json"
    assert not Session(path, torch.device("cpu"), 2).measure(["loop"])
    result = json.loads(path.read_text())
    assert not result["complete"] and [row["name"] for row in result["rows"]] == ["a", "b"]


def test_progress_on_a_terminal_is_one_line_no_wider_than_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    progress = Progress(terminal)
    for number in range(3):
        progress.show("loop", f"epoch of a very long name: round {number} of 3", new=number == 0)
    progress.end()
    lines = terminal.getvalue().split("\r\x1b[K")
    assert "\n" not in terminal.getvalue() and lines[-1] == "" and len(lines) == 5
    assert all(len(line) < 30 for line in lines)


def test_interrupted_command_ends_without_a_traceback_and_can_be_compared_with(own_tree: Path) -> None:
    command = [sys.executable, "scripts/bench.py", "--rounds", "8", "start"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    results = own_tree / "results"
    with subprocess.Popen(command, cwd=own_tree, text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        wait_for(lambda: any(results.glob("bench-*.json")) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err and "start of a tool" in out
    (file,) = results.glob("bench-*.json")
    assert f"interrupted; kept in results/{file.name}" in out
    assert bench.read(file)["complete"] is False
