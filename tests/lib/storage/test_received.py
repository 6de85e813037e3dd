"""Files that others may have put there are read without waiting, and only if they are files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.storage.files import read_json, read_json_lines
from lib.storage.received import Refused, is_private, open_folder_no_link, open_regular, read_regular
from lib.storage.safe_yaml import read_yaml


@pytest.fixture(params=["pipe", "device", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def test_what_is_no_regular_file_is_refused_at_once(odd: Path) -> None:
    with pytest.raises(Refused, match="not a regular file"):
        read_regular(odd)


def test_records_are_empty_where_there_is_no_regular_file(odd: Path) -> None:
    assert read_json(odd) == {} and read_yaml(odd) == {} and read_json_lines(odd) == ([], 0)


def test_a_file_is_read_up_to_the_size_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path) == read_regular(path, 5) == b"12345"
    with pytest.raises(Refused, match="larger than 4 bytes"):
        read_regular(path, 4)


def test_a_link_is_followed_only_where_that_is_allowed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    (tmp_path / "file").write_bytes(b"12345")
    with open_regular(link) as file:
        assert file.read() == b"12345"
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(link, follow=False)


def test_private_is_what_nobody_else_can_have_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_private(path)
    path.touch(0o644)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert is_private(path) and not is_private(link)
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert not is_private(path)


def test_a_folder_below_another_is_reached_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "latest").symlink_to("root")  # the owner's own link
    os.close(open_folder_no_link(tmp_path / "latest", "graphs", "lenet5"))
    assert (tmp_path / "root" / "graphs" / "lenet5").is_dir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path)
    for names in (["linked"], ["linked", "made"], ["graphs", "..", "linked"]):
        with pytest.raises(Refused, match="is a link or not a folder"):
            open_folder_no_link(tmp_path / "root", *names)
    assert {path.name for path in tmp_path.iterdir()} == {"root", "latest"}
