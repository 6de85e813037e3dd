"""Recordings: whole lines of JSON or CSV, read back alike, torn lines left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.monitor import recording
from lib.monitor.recording import LineFile, load
from scripts import gputop
from tests.helpers.gpu_recordings import sample


def test_torn_tail_does_not_swallow_the_next_line_and_a_full_disk_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    path.write_text('{"time": 1, "gpu": null}\n{"time": 2, "gp')
    LineFile(path).write('{"time":3,"gpu":null}')
    records, dropped = load(path)
    assert [record["time"] for record in records] == [1, 3]
    assert dropped == 1
    LineFile(Path("/dev/full")).write("lost")


def test_recording_as_csv_is_read_back_like_one_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [sample(float(t), "train" if t else "startup", process_mib=100.0 + t, power_w=9.0) for t in range(4)]
    rows.append(sample(4.0, None, None, host_rss_mib=1.5))  # gaps stay gaps
    json_lines, csv_lines = tmp_path / "a.jsonl", tmp_path / "a.csv"
    json_lines.write_text("".join(recording.as_line(row) + "\n" for row in rows))
    whole = ",".join(recording.COLUMNS) + "\n" + "".join(recording.as_csv(row) + "\n" for row in rows)
    csv_lines.write_text(whole)
    assert recording.load(csv_lines) == recording.load(json_lines) == (rows, 0)
    for asked in ("--summary {}", "--compare {} {}", "--plot {} --output {}.png"):
        assert gputop.main(asked.format(*[str(csv_lines)] * 2).split()) == 0
    assert "process MiB" in capsys.readouterr().out
    csv_lines.write_text(whole + "5.0,train,0,10")  # torn, and torn in the middle
    assert recording.load(csv_lines) == (rows, 1)
    csv_lines.write_text(whole.replace("2.0,train,0,102.0", '2.0,"trai'))
    assert recording.load(csv_lines) == ([*rows[:2], *rows[3:]], 1)
