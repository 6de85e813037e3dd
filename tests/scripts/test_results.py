"""`make summary` and `make compare` as users meet them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lib.results import summary
from lib.storage.project import ROOT
from scripts import results
from tests.helpers.fake_results import compare_matrix, make_results, make_run


def test_summary_command_writes_both_files_and_starts_fast_without_heavy_packages(tmp_path: Path) -> None:
    make_results(tmp_path, compare_matrix(), epochs=3)
    probe = "import sys; from scripts import results; results.main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", probe, "summary", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "matplotlib", "pandas", "numpy"}
    assert "AdamWPrune  state" in done.stdout
    folder = tmp_path / "lenet5-compare-20240101-120000"
    assert (folder / "summary.csv").is_file() and (folder / "summary.md").is_file()


@pytest.mark.parametrize("arguments", [["summary"], ["summary", "nope"], ["compare", "a", "b"]])
def test_a_folder_that_is_not_there_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main([*arguments, "--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["summary", "."], ["compare", "", ""], ["compare", ".", "."]])
def test_a_folder_without_runs_is_one_sentence_and_nothing_is_written_there(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert results.main(arguments) != 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_table_that_cannot_be_written_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    folder = make_results(tmp_path, compare_matrix()[:1], epochs=2)
    monkeypatch.setattr(summary, "write_atomic", full)
    assert results.main(["summary", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "LeNet-5" in out and err.splitlines()[-1].endswith("not written: No space left on device")


@pytest.mark.parametrize("command", [["results.py", "summary"], ["kconfig.py", "list-defconfigs"]])
def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path, command: list[str]) -> None:
    given = [str(make_results(tmp_path, compare_matrix(), epochs=2))] if command[0] == "results.py" else []
    words = [sys.executable, str(ROOT / "scripts" / command[0]), *command[1:], *given]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tool:
        tool.stdout.close()
        assert tool.stderr.read() == ""
    assert tool.returncode == 0


def test_escape_sequences_of_a_received_folder_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escape = "\x1b]0;title\x07\x1b[2J\u202e"
    folder = make_results(tmp_path / "a", compare_matrix()[:2], epochs=2)
    failed = make_run(folder, "adam", state="failed", reason=f"loss {escape} is nan")
    fields = {"label": escape, "dataset": escape, "mode": escape, "ranking": escape}
    (failed / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load((failed / "config.yaml").read_text()) | fields))
    pruned = next(folder.glob("*_magnitude_*")) / "config.yaml"
    pruned.write_text(yaml.safe_dump(yaml.safe_load(pruned.read_text()) | fields))
    other = make_results(tmp_path / "b", compare_matrix()[:2], epochs=2)
    assert results.main(["summary", str(folder)]) == 0
    assert results.main(["compare", str(folder), str(other)]) == 0
    out, err = capsys.readouterr()
    assert "\\x1b" in out and all(char.isprintable() or char == "\n" for char in out + err)
