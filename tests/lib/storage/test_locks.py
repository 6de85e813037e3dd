"""A lock names its holder, and takes nothing from a file that is not a lock."""

from __future__ import annotations

import os

import pytest

from lib.storage.locks import Locked, locked
from lib.storage.received import Refused


def test_a_lock_held_on_another_machine_is_named_with_its_machine(tmp_path):
    assert str(Locked(tmp_path / ".lock", 7, "node3")).endswith("process 7 on node3")


def test_who_finds_a_lock_held_is_told_by_whom(tmp_path):
    (tmp_path / ".lock").write_text("4194304 a-machine-with-a-long-name\n")  # of an earlier holder
    with locked(tmp_path / ".lock"), pytest.raises(Locked) as caught, locked(tmp_path / ".lock"):
        pass
    assert caught.value.pid == os.getpid()


def test_a_link_or_a_pipe_is_no_lock(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(Refused), locked(tmp_path / name):
            pass
    assert (tmp_path / "precious").read_text() == "old"


def test_what_a_file_under_the_name_of_a_lock_holds_is_left_in_it(tmp_path):
    (tmp_path / ".lock").write_text("a diary\n")
    with locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / ".lock").read_text() == "a diary\n"
