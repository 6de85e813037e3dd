"""scripts/gputop.py as its users see it: the screen, JSON and CSV, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from lib.monitor.devices import find
from lib.monitor.host import Host
from lib.monitor.recording import load
from lib.monitor.screen import History, page
from lib.monitor.snapshot import snapshot
from lib.monitor.summary import summarize
from scripts import gputop
from tests.helpers.fake_nvml import FakeNvml, device, process
from tests.helpers.gpu_recordings import unpack, write
from tests.scripts.test_gputop import NOWHERE, lines


@pytest.fixture(autouse=True)
def all_devices_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


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


def test_many_devices_leave_room_for_the_processes_on_a_low_terminal() -> None:
    nvml = FakeNvml(*[device(uuid=f"GPU-{n}", load=(10 * n, 1), compute=[process(os.getpid(), 900)]) for n in range(8)])
    gpus = find(NOWHERE, nvml)
    for height, lines_each in ((24, 1), (60, 3)):
        console = Console(width=80, height=height, file=io.StringIO(), record=True)
        console.print(page(snapshot(gpus, Host()), History(), [], None, 80, height, 1.0))
        rows = console.export_text().splitlines()
        first = next(i for i, row in enumerate(rows) if row.startswith("7 "))
        assert first == 1 + 7 * lines_each
        assert "70 %" in rows[first + (lines_each > 1)]
        assert "20,000 / 81,559 MiB" in rows[first + (2 if lines_each > 1 else 0)]
        assert next(i for i, row in enumerate(rows) if str(os.getpid()) in row) < height


def test_a_name_with_brackets_stands_on_the_screen_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    seen = snapshot(find(nvml=FakeNvml(device(name="oddity [/x]"))), Host())
    for height in (8, 80):  # one line each, and three
        Console(width=100).print(page(seen, History(), [], None, 100, height))
        assert "oddity [/x]" in capsys.readouterr().out


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
    assert lines(tmp_path / "r")[0]["gpu"] is None


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
