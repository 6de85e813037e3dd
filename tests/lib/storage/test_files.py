"""Files are written whole or not at all, and read as far as they go."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.storage import files
from lib.storage.project import ROOT
from lib.storage.received import Refused


def python(code: str, *arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_importing_it_does_not_import_torch():
    code = "import sys, lib.storage.files; print('torch' in sys.modules)"
    assert python(code).communicate()[0].strip() == "False"


# --- whole files


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "status.json"
    files.write_atomic(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as file:
        file.write(b"half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_symlinked_file_of_the_user_stays_a_link_and_its_target_is_written(tmp_path):
    real, link = tmp_path / "elsewhere", tmp_path / ".config"
    real.write_text("old")
    link.symlink_to(real)
    files.write_atomic(link, "new", follow=True)
    assert link.is_symlink() and real.read_text() == "new"


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "status.json"
    code = """
import sys; from pathlib import Path; from lib.storage import files
path = Path(sys.argv[1]); print("go", flush=True); n = 0
while True:
    n += 1
    files.write_json(path, {"n": n, "rest": "x" * 200_000})
"""
    for pause in (0.0, 0.003, 0.007, 0.011, 0.02):
        writer = python(code, path)
        writer.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(pause)
        writer.kill()
        writer.communicate()
        assert len(json.loads(path.read_text())["rest"]) == 200_000
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_link_in_a_folder_is_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("old")
    for name in ("summary.json", "metrics.jsonl"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(Refused, match="a link"):
        files.write_json(tmp_path / "summary.json", {})
    with pytest.raises(Refused, match="a link"):
        files.append_json(tmp_path / "metrics.jsonl", {})
    assert precious.read_text() == "old"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(Refused, match="not a regular file"):
        files.append_json(tmp_path / "metrics.jsonl", {"epoch": 1})


def test_a_link_under_the_name_of_a_temporary_file_is_never_met(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("old")
    monkeypatch.setattr("secrets.token_hex", lambda size: "00000000")
    (tmp_path / f".status.json.{os.getpid()}-00000000.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        files.write_json(tmp_path / "status.json", {})
    assert (tmp_path / "precious").read_text() == "old"


def test_only_temporary_files_count_as_leftovers(tmp_path):
    for name in (".checkpoint.pt.4711.tmp", ".status.json.1-0a.tmp", "notes.tmp", ".lock", "a.4711.tmp"):
        (tmp_path / name).touch()
    assert files.remove_leftovers(tmp_path) == [".checkpoint.pt.4711.tmp", ".status.json.1-0a.tmp"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "a.4711.tmp", "notes.tmp"]


# --- JSON and lines of it


def test_numbers_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    record = {"loss": math.nan, "deep": [math.inf, {"x": -math.inf}], "fine": 0.5}
    files.append_json(path, record)
    text = path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text) == {"loss": None, "deep": [None, {"x": None}], "fine": 0.5}


def test_a_torn_tail_is_dropped_and_counted_and_the_next_line_stands_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "tes')
    assert files.read_json_lines(path) == ([{"epoch": 1}, {"epoch": 2}], 1)
    files.append_json(path, {"epoch": 3})
    assert path.read_bytes() == b'{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'


def test_lines_with_nul_bytes_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + b"\0" * 4096 + b'\n{"epoch": \0\0}\n{"epoch": 2}\n')
    assert files.read_json_lines(path) == ([{"epoch": 1}, {"epoch": 2}], 2)
    assert files.repair_json_lines(path) == 2
    assert path.read_bytes() == b'{"epoch": 1}\n{"epoch": 2}\n'
    assert files.repair_json_lines(path) == 0


def test_a_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n{"epoch": 2}')
    files.append_json(path, {"epoch": 3})
    assert files.read_json_lines(path) == ([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}], 0)


@pytest.mark.parametrize("line", [b"12", b"[1]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"9" * 9999])
def test_a_line_that_is_no_record_is_dropped(tmp_path, line):
    path = tmp_path / "gpu.jsonl"
    path.write_bytes(line + b'\n{"time": 1}\n')
    assert files.read_json_lines(path) == ([{"time": 1}], 1)


def test_a_missing_file_has_no_records(tmp_path):
    assert files.read_json_lines(tmp_path / "none") == ([], 0)
    assert files.read_json(tmp_path / "none") == {}


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
records = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=6)


@settings(max_examples=60, deadline=None)
@given(records, st.integers(min_value=0), records)
def test_a_file_cut_anywhere_keeps_its_whole_lines_and_takes_new_ones(tmp_path_factory, before, cut, after):
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    for record in before:
        files.append_json(path, record)
    whole = path.read_bytes() if path.exists() else b""
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    kept, _ = files.read_json_lines(path)
    assert len(kept) >= whole[:cut].count(b"\n")
    assert kept == before[: len(kept)]
    for record in after:
        files.append_json(path, record)
    assert files.read_json_lines(path) == (kept + after, 0) or not after


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_repair_takes_any_bytes_and_is_idempotent(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "gpu.jsonl"
    path.write_bytes(content)
    found, dropped = files.read_json_lines(path)
    assert files.repair_json_lines(path) == dropped
    assert files.read_json_lines(path) == (found, 0)


def test_an_append_that_finds_the_disk_full_leaves_no_half_line(tmp_path):
    code = """
import resource, signal, sys; from pathlib import Path; from lib.storage import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1]); files.append_json(path, {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    files.append_json(path, {"epoch": 2, "rest": "x" * 200})
except OSError as error:
    print(error.strerror)
"""
    path = tmp_path / "metrics.jsonl"
    assert python(code, path).communicate()[0].strip() == "File too large"
    assert path.read_bytes() == b'{"epoch": 1}\n'
