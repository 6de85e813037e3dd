"""scripts/gputop.py as its users see it: the screen, JSON, CSV, recordings, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.monitor.recording import load
from lib.monitor.summary import summarize
from scripts import gputop
from tests.helpers.fake_nvml import FakeNvml, device, process
from tests.helpers.gpu_recordings import sample, samples_in, unpack, write


@pytest.fixture(autouse=True)
def all_devices_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_recorder_ends_at_once_for_a_process_that_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    assert gputop.main(["--pid", str(gone.pid), "--output", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x").read_text() == ""


@pytest.mark.parametrize("how", ["--once", "--once --json", "--once --csv", "--json --count 2", "--csv", "--count 2"])
def test_process_that_does_not_exist_is_said_in_one_line_with_code_2(
    how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gputop.main(["--pid", "999999999", *how.split()]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err == "gputop: there is no process 999999999\n"


def test_missing_folder_of_the_output_is_named_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "gpu.jsonl"
    recording.write_text('{"time":1,"gpu":null,"host_rss_mib":3}\n')
    for asked in (["--count", "1"], ["--plot", str(recording)]):
        assert gputop.main([*asked, "--output", f"{tmp_path}/no/such/a.png"]) == 2
        assert capsys.readouterr().err == f"gputop: {tmp_path}/no/such/a.png: there is no folder {tmp_path}/no/such\n"
    assert list(tmp_path.iterdir()) == [recording]


def test_recorder_waits_out_a_long_interval_no_longer_than_its_process_lives() -> None:
    began = time.monotonic()
    with subprocess.Popen(["/bin/sleep", "0.2"]) as child:
        assert gputop.main(["--pid", str(child.pid), "--interval", "60", "--count", "2", "--csv"]) == 0
    assert time.monotonic() - began < 5


def test_once_shows_devices_with_gaps_as_dashes_and_processes(capsys: pytest.CaptureFixture[str]) -> None:
    shared = device(name="NVIDIA GB10", load=(0, 0), compute=[process(os.getpid(), 900), process(999_999_999, None)])
    del shared["used"], shared["total"]
    assert gputop.main(["--once", "--root", "/"], FakeNvml(device(), shared)) == 0
    screen = capsys.readouterr().out
    assert "20,000 / 81,559 MiB" in screen and "87 %" in screen and "412 / 700 W" in screen
    memory = screen[screen.index("GB10") :].splitlines()[2]
    assert memory.split()[:2] == ["memory", "–"]
    assert "900" in screen and "not visible from here" in screen


@pytest.mark.parametrize("width", [80, 120])
def test_no_size_is_cut_off_on_a_terminal_of_usual_width(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    root = unpack("amd_mi300x", tmp_path)
    write(root, "proc/meminfo", "MemTotal: 2113929216 kB\nMemAvailable: 1065353216 kB")
    assert gputop.main(["--once", "--root", str(root)]) == 0
    screen = capsys.readouterr().out
    assert "98,304 / 196,592 MiB" in screen and "1,024,000 / 2,064,384 MiB" in screen
    assert max(map(len, screen.splitlines())) <= width


def test_load_and_power_that_are_differences_are_there_when_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = unpack("intel_a770_i915", tmp_path)
    energy = root / "sys/class/drm/card0/device/hwmon/hwmon2/energy1_input"
    monkeypatch.setattr(time, "sleep", lambda _: energy.write_text(str(int(energy.read_text()) + 10)))
    assert gputop.main(["--once", "--json", "--root", str(root)]) == 0
    (gpu,) = json.loads(capsys.readouterr().out)["gpus"]
    assert gpu["power_w"] > 0 and gpu["gpu_utilization"] == 0


def test_devices_with_the_same_number_keep_their_own_figures_in_a_recording(tmp_path: Path) -> None:
    output = tmp_path / "gpu.jsonl"
    root = unpack("amd_mi300x", tmp_path / "root")
    nvml = FakeNvml(device())
    assert gputop.main(["--count", "1", "--root", str(root), "--output", str(output)], nvml) == 0
    devices = summarize(load(output)[0])["devices"]
    assert {name: found["all"]["device_used_mib"]["peak"] for name, found in devices.items()} == {
        "gpu nvidia:0": 20_000, "gpu amd:0": 98_304
    }  # fmt: skip


def test_total_memory_is_shown_where_a_device_tells_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gputop.main(["--once", "--root", str(unpack("intel_b580_xe", tmp_path))]) == 0
    assert "– / 12,288 MiB" in capsys.readouterr().out


def test_hidden_devices_are_told_of_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-none")
    assert gputop.main(["--once"], FakeNvml(device())) == 0
    screen = capsys.readouterr().out
    assert "hidden by CUDA_VISIBLE_DEVICES='GPU-none': 0 NVIDIA H100" in screen and "can be read" not in screen


def test_without_a_gpu_the_host_is_shown_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = unpack("intel_a770_i915", tmp_path / "a")
    assert gputop.main(["--once", "--gpu", "0", "--root", str(root)]) == 0
    assert "Intel GPU 0x56a0" in capsys.readouterr().out
    (tmp_path / "b/proc").mkdir(parents=True)
    (tmp_path / "b/proc/meminfo").write_text("MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\n")
    assert gputop.main(["--once", "--root", str(tmp_path / "b")]) == 0
    screen = capsys.readouterr().out
    assert "No GPU" in screen and "1,000 / 2,000 MiB" in screen


def test_json_is_one_object_with_gaps_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    used = [process(os.getpid(), 900), process(999_999_999, None)]
    assert gputop.main(["--once", "--json"], FakeNvml(device(compute=used))) == 0
    (gpu,) = json.loads(capsys.readouterr().out)["gpus"]
    assert gpu["device_used_mib"] == 20_000 and "fan_percent" not in gpu
    assert gpu["processes"][0]["mib"] == 900 and "mib" not in gpu["processes"][1]


def test_csv_has_an_empty_cell_where_a_reading_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "gpu.csv"
    for _ in range(2):  # the second call appends, without a second heading
        assert gputop.main(["--csv", "--count", "1", "--output", str(output)], FakeNvml(device())) == 0
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert len(rows) == 2
    assert rows[0]["device_used_mib"] == "20000.0" and rows[0]["fan_percent"] == ""


def test_gpu_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gputop.main(["--once", "--gpu", "3"], FakeNvml(device())) == 2
    assert "no GPU 3; there are: 0 NVIDIA H100" in capsys.readouterr().err
    # a run's recording goes on with the host's memory
    assert gputop.main(["--gpu", "3", "--count", "1", "--output", str(tmp_path / "r")], FakeNvml(device())) == 0
    assert samples_in(tmp_path / "r")[0]["gpu"] is None


@pytest.mark.parametrize("wrong", [["--interval", "0"], ["--interval", "nan"], ["--count", "0"], ["--json", "--csv"]])
def test_wrong_arguments_end_with_code_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gputop.main(wrong)
    assert ended.value.code == 2


def test_a_picture_of_an_unknown_kind_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "gpu.jsonl"
    gputop.main(["--count", "2", "--interval", "0.1", "--output", str(recording)])
    assert gputop.main(["--plot", str(recording), "--output", str(tmp_path / "a.txt")]) != 0
    assert "a.txt: the name of a picture ends with .png" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--csv --summary {}", "--summary does not go with --csv"),
        ("--summary {} --output {}.csv", "--summary does not go with --output"),
        ("--compare {} {} --pid 3", "--compare does not go with --pid"),
        ("--plot {} --json", "--plot does not go with --json"),
        ("--summary {} --phase-file {}", "--summary does not go with --phase-file"),
        ("--once --count 3", "--once does not go with --count"),
        ("--phase-file {}", "--phase-file is for recordings"),
    ],
)
def test_option_that_would_do_nothing_is_refused(
    words: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.jsonl"
    file.write_text('{"time":1,"gpu":null,"host_rss_mib":3}\n')
    with pytest.raises(SystemExit) as ended:
        gputop.main(words.format(file, file).split())
    assert ended.value.code == 2 and sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def test_root_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gputop.main(["--once", "--root", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"gputop: --root {tmp_path}/none: there is no such folder\n"


# --- text of others -------------------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;owned\x07[/bold] [red]$a^$\n\u202e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_everything_is_shown_on_a_terminal_of_any_encoding(encoding: str, tmp_path: Path) -> None:
    root = unpack("amd_mi300x", tmp_path / "root")
    write(root, "proc/991234/cmdline", "größe_模.py")
    write(root, "proc/991234/statm", "1 1 0")
    file = tmp_path / "größe 模.jsonl"
    file.write_text("".join(json.dumps(sample(float(t), "größe 模", temperature_c=50.0)) + "\n" for t in range(3)))
    for words in (["--once", "--root", root], ["--summary", file], ["--compare", file, file], ["--plot", file]):
        command = [sys.executable, gputop.__file__, *map(str, words)]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, b""), words
        assert done.stdout.decode(encoding)


def test_brackets_in_a_path_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name / "gpu.jsonl" for name in ("run[old]", "run[new]", "run[", "b]")]
    for file in files:
        file.parent.mkdir()
        file.write_text("".join(json.dumps(sample(float(t), power_w=9.0)) + "\n" for t in range(3)))
    closing = tmp_path / "run[" / "b]" / "gpu.jsonl"  # with "[/" in it
    closing.parent.mkdir()
    closing.write_text(files[0].read_text())
    for a, b in ((files[0], files[1]), (closing, closing)):
        assert gputop.main(["--compare", str(a), str(b)]) == 0
        shown = capsys.readouterr().out.replace("\n", "")
        assert str(a) in shown and str(b) in shown
        assert gputop.main(["--summary", str(a)]) == 0
        assert str(a) in capsys.readouterr().out.replace("\n", "")


def test_dollars_in_a_name_are_no_formula(tmp_path: Path) -> None:
    file = tmp_path / "cost_$5_and_$6 $a^$.jsonl"
    file.write_text("".join(json.dumps(sample(float(t), "$a^$", power_w=9.0)) + "\n" for t in range(3)))
    assert gputop.main(["--plot", str(file)]) == 0
    assert file.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_escape_sequences_of_names_and_recordings_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = unpack("amd_mi300x", tmp_path / "root")
    write(root, "proc/991234/statm", "1 1 0")
    for place in ("proc/991234/cmdline", "sys/class/drm/card2/device/product_name"):
        file = root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HOSTILE)
    records = [{"time": float(t), "gpu": HOSTILE, "phase": HOSTILE, "power_w": 9.0} for t in range(3)]
    recording = tmp_path / "gpu.jsonl"
    recording.write_text("".join(json.dumps(record) + "\n" for record in records))
    trained = tmp_path / "train.jsonl"
    trained.write_text("".join(json.dumps(record | {"phase": "train"}) + "\n" for record in records))
    asked = [
        ["--once", "--root", str(root)], ["--once", "--csv", "--root", str(root)],
        ["--once", "--json", "--root", str(root)], ["--gpu", HOSTILE, "--once"], ["--summary", str(recording)],
        ["--compare", str(trained), str(trained)], ["--summary", HOSTILE], ["--plot", HOSTILE],
    ]  # fmt: skip
    for words in asked:
        gputop.main(words)
        told = capsys.readouterr()
        shown = told.out + told.err
        assert not set("\x1b\x07\u202e") & set(shown), words
        assert "owned" in shown or "--csv" in words, words
