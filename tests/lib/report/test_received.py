"""What a report takes from files that others may have written: a bounded part of regular files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.report.received import read_no_link


@pytest.mark.parametrize(
    ("most", "tail", "part"), [(2, False, b"12"), (2, True, b"45"), (9, False, b"12345"), (9, True, b"12345")]
)
def test_of_a_file_the_first_or_the_last_bytes_are_read(most: int, tail: bool, part: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"12345")
    assert read_no_link(tmp_path / "log", most, tail) == part


def test_nothing_is_read_of_what_is_absent_a_link_a_pipe_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path / "link", tmp_path / "pipe", tmp_path):
        assert read_no_link(path, 9) is None
