"""Recordings: whole lines of JSON or CSV, read back alike, torn lines left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib.monitor import recording
from lib.monitor.recording import LineFile, load
from lib.monitor.summary import summarize
from lib.storage import files
from lib.storage.project import ROOT
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


@pytest.mark.parametrize("form", ["json", "csv"])
def test_of_a_long_recording_every_device_keeps_samples_that_are_evenly_spaced(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_SAMPLES", 100)
    rows = [sample(float(t), "train", gpu, process_mib=float(t)) for t in range(600) for gpu in range(4)]
    text = "".join((recording.as_csv if form == "csv" else recording.as_line)(row) + "\n" for row in rows)
    file = tmp_path / "long"
    file.write_text((",".join(recording.COLUMNS) + "\n" if form == "csv" else "") + text)
    samples, dropped = recording.load(file)
    assert dropped == 0 and len(samples) <= 100
    found = summarize(samples)["devices"]
    assert set(found) == {f"gpu {number}" for number in range(4)}
    for device in found.values():
        assert device["training"]["process_mib"]["mean"] == pytest.approx(300, rel=0.1)
        assert device["training"]["seconds"] == pytest.approx(600, rel=0.1)


def test_line_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE", 1000)
    file = tmp_path / "gpu.jsonl"
    file.write_text('{"time": 1, "gpu": null}\n{"time": 2, "note": "' + 5000 * "x" + '"}\n{"time": 3, "gpu": null}\n')
    samples, dropped = recording.load(file)
    assert [row["time"] for row in samples] == [1, 3] and dropped == 6


@pytest.mark.soak
def test_ten_million_samples_cost_seconds_and_not_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: lenet5\n")
    lines = [
        recording.as_line(sample(float(t), "train", 0, process_mib=100.0, power_w=9.0)) + "\n" for t in range(1000)
    ]
    with (tmp_path / "gpu.jsonl").open("w") as file:
        for _ in range(10_000):
            file.write("".join(lines))
    program = (
        "import re, sys, time; from pathlib import Path; from lib.results.load import load_run; "
        "start = time.process_time(); run = load_run(Path(sys.argv[1])); seconds = time.process_time() - start; "
        "peak = re.search('VmHWM: *([0-9]+)', Path('/proc/self/status').read_text().replace(chr(9), ' '))[1]; "
        "print(len(run.samples), seconds, int(peak) / 1024)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, seconds, mib = map(float, done.stdout.split())
    assert count > 50_000 and seconds < 10 and mib < 500
