"""Event files hold the metrics, in the format that TensorBoard reads."""

from __future__ import annotations

import importlib.util
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lib.storage.project import ROOT
from lib.training.tensorboard import PREFIX, Events, crc32c, how_to_look, scalars
from tests.helpers.tiny_runs import run, tiny

RECORD = {
    "epoch": 300, "time": 1700000000.5, "test_accuracy": 98.5, "train_loss": float("nan"), "learning_rate": 0.002,
    "sparsity": 0.7, "memory": {"weights": 247000}, "layer_sparsity": {"fc.weight": 0.5}, "note": "text",
}  # fmt: skip
VALUES = {
    "accuracy/test": 98.5, "learning_rate": 0.002, "sparsity": 0.7, "memory/weights": 247000.0,
    "layer_sparsity/fc.weight": 0.5,
}  # fmt: skip


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC catalogue
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_numbers_become_scalars_and_what_is_none_is_left_out() -> None:
    assert dict(scalars(RECORD)) == VALUES


def test_bytes_of_a_small_event_are_those_of_the_format(tmp_path: Path) -> None:
    events = Events(tmp_path)
    before = events.path.stat().st_size
    events.add({"epoch": 300, "time": 2.0, "loss": 1.0})
    data = events.path.read_bytes()[before:]
    value = b"\x0a\x04loss" + b"\x15" + struct.pack("<f", 1.0)
    event = b"\x09" + struct.pack("<d", 2.0) + b"\x10\xac\x02" + b"\x2a\x0d" + b"\x0a\x0b" + value
    assert data[:8] == struct.pack("<Q", len(event))
    assert data[12:-4] == event


def test_a_run_taken_up_again_leaves_one_file_with_each_epoch_once(tmp_path: Path) -> None:
    first = Events(tmp_path)
    first.add(RECORD)
    other = tmp_path / "notes.txt"
    other.touch()
    again = Events(tmp_path, [RECORD])
    again.add(RECORD | {"epoch": 301})
    assert [path.name for path in tmp_path.iterdir() if path != other] == [again.path.name]
    assert again.path.name.startswith(PREFIX) and other.exists()
    assert again.path.read_bytes().count(b"accuracy/test") == 2


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").touch()
    told: list[str] = []
    events = Events(tmp_path / "tensorboard", [RECORD], told.append)
    events.add(RECORD)
    assert len(told) == 1 and "File exists" in told[0]


def test_tensorboard_itself_reads_them(tmp_path: Path) -> None:
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the package tensorboard"
    )
    Events(tmp_path).add(RECORD)
    found = reading.EventAccumulator(str(tmp_path)).Reload()
    assert set(found.Tags()["scalars"]) == set(VALUES)
    for tag, value in VALUES.items():
        (scalar,) = found.Scalars(tag)
        assert (scalar.step, scalar.wall_time) == (300, 1700000000.5) and scalar.value == pytest.approx(value)


def test_writing_them_imports_neither_torch_nor_tensorboard() -> None:
    probe = "import sys, lib.training.tensorboard; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "tensorboard", "numpy"}


def test_a_run_says_how_to_look_at_its_event_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    run(tiny(epochs=1, tensorboard=True), tmp_path / "a run", log=lines.append)
    (line,) = (line for line in lines if line.startswith("TensorBoard: "))
    program, option, folder = shlex.split(line.removeprefix("TensorBoard: "))
    assert Path(program).name == "tensorboard" and option == "--logdir"
    assert list(Path(folder).glob(f"tensorboard/{PREFIX}*"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert how_to_look(tmp_path).endswith("(`make deps-tensorboard` installs it)")


def test_make_installs_tensorboard_on_request_and_says_how_to_start_it() -> None:
    command = ["make", "-s", "deps-tensorboard", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{Path(sys.executable).with_name('tensorboard')} --logdir results/latest\n")
