"""Tables fit the terminal."""

from __future__ import annotations

import pytest

from lib.results import text_table


def test_a_narrow_terminal_goes_without_the_least_needed_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["adamw", "98.50", "12.0"]]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    text_table.print_table(["optimizer", "accuracy", "seconds"], rows, {0}, (2,))
    out = capsys.readouterr().out
    assert "98.50" in out and "12.0" not in out and "Too narrow for: seconds." in out
    assert max(map(len, out.splitlines()[:3])) <= 20
