"""What gputop.py makes of its recordings: summaries, comparison, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.monitor import recording
from lib.monitor.summary import compare, durations, percentile, summarize
from lib.plots.recording import spans
from scripts import gputop
from tests.scripts.test_gputop import sample


def test_summary_of_training_leaves_out_startup_and_evaluation() -> None:
    records = [
        sample(0.0, "startup", process_mib=100.0),
        sample(1.0, "train", process_mib=400.0),
        sample(2.0, "ramp", process_mib=600.0),
        sample(3.0, "evaluate", process_mib=900.0),
        sample(4.0, "finetune", process_mib=500.0),
        sample(5.0, "done", process_mib=50.0),
    ]
    found = summarize(records)["devices"]["gpu 0"]
    assert found["training"]["process_mib"]["mean"] == 500.0
    assert found["training"]["process_mib"]["peak"] == 600.0
    assert found["training"]["seconds"] == 3.0
    assert found["all"]["process_mib"]["peak"] == 900.0
    assert found["evaluate"]["process_mib"]["samples"] == 1
    assert "power_w" not in found["all"]


def test_summary_without_phases_counts_everything_as_training() -> None:
    records = [sample(float(t), None, None, host_rss_mib=float(t)) for t in range(5)]
    found = summarize(records)["devices"]["host"]
    assert found["training"]["host_rss_mib"] == {"samples": 5, "mean": 2.0, "p50": 2.0, "p95": 3.8, "peak": 4.0}


def test_summary_of_samples_with_gaps_uses_those_that_have_the_reading() -> None:
    records = [sample(0.0, power_w=100.0), sample(1.0), sample(2.0, power_w=200.0), sample(3.0, power_w=None)]
    power = summarize(records)["devices"]["gpu 0"]["training"]["power_w"]
    assert (power["samples"], power["mean"]) == (2, 150.0)


def test_pause_between_interruption_and_resumption_is_no_training_time() -> None:
    records = [sample(t) for t in (0.0, 1.0, 2.0, 10_000.0, 10_001.0)]
    assert durations(records) == [1.0, 1.0, 1.0, 1.0, 1.0]


def test_percentiles_by_hand() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0], 100) == 2.0
    assert percentile([7.0], 95) == 7.0


def test_comparison_gives_difference_and_ratio_of_what_both_have() -> None:
    a = summarize([sample(0.0, process_mib=800.0, power_w=10.0), sample(1.0, process_mib=1000.0)])
    b = summarize([sample(0.0, process_mib=600.0), sample(1.0, process_mib=600.0)])
    rows = compare(a, b)
    assert {row["measure"] for row in rows} == {"process_mib", "seconds"}
    peak = next(row for row in rows if row["figure"] == "peak")
    assert (peak["a"], peak["b"], peak["difference"], peak["ratio"]) == (1000.0, 600.0, -400.0, 0.6)


def test_recordings_are_read_back_as_tables_json_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mib in (("a", 100.0), ("b", 50.0)):
        (tmp_path / name).mkdir()
        rows = [sample(float(t), "train" if t else "startup", process_mib=mib, power_w=9.0) for t in range(4)]
        (tmp_path / name / "gpu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = str(tmp_path / "a")  # a run's folder will do
    assert gputop.main(["--summary", run]) == 0
    assert "process MiB" in capsys.readouterr().out
    assert gputop.main(["--summary", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"]["gpu 0"]["training"]["seconds"] == 3.0
    assert gputop.main(["--compare", run, str(tmp_path / "b")]) == 0
    assert "0.500" in capsys.readouterr().out
    picture = tmp_path / "picture.png"
    assert gputop.main(["--plot", f"{run}/gpu.jsonl", "--output", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"


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


def test_file_that_is_no_recording_is_refused_and_told_what_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("epoch 1\nepoch 2\n")
    for asked in ("--summary {}", "--compare {} {}", "--plot {}"):
        assert gputop.main(asked.format(*[str(tmp_path / "log.txt")] * 2).split()) == 2
        told = capsys.readouterr().err
        assert "log.txt: no sample in it" in told and "JSON or CSV" in told and told.count("\n") == 1


def test_recording_that_is_missing_or_empty_is_one_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gputop.main(["--summary", str(tmp_path / "none")]) == 2
    assert "no such recording" in capsys.readouterr().err
    (tmp_path / "empty").write_text("")
    assert gputop.main(["--plot", str(tmp_path / "empty")]) == 2
    assert gputop.main(["--summary", str(tmp_path / "empty")]) == 0
    assert "no samples" in capsys.readouterr().out


def test_phases_become_stretches_that_join() -> None:
    records = [sample(0.0, "startup"), sample(1.0, "train"), sample(2.0, "train"), sample(3.0, None), sample(4.0)]
    assert spans(records) == [("startup", 0.0, 1.0), ("train", 1.0, 3.0), ("train", 4.0, 4.0)]
