"""The compiled library is loaded from a place that only the user can write, and only if it is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.kernels import cpu
from lib.storage.project import ROOT

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler on this machine"
)


@pytest.fixture(autouse=True)
def load_anew() -> Iterator[None]:
    cpu.load.cache_clear()
    yield
    cpu.load.cache_clear()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library in a cache of its own, built and loaded once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cpu.load() is not None
    cpu.load.cache_clear()
    (library,) = (tmp_path / "adamwprune").glob("*.so")
    return library


def load_in_a_process() -> str:
    """Load the library in a new process; return the path that it is mapped from."""
    code = (
        "from lib.kernels import cpu; assert cpu.load() is not None; "
        "print(*{line.split(maxsplit=5)[5].strip() for line in open('/proc/self/maps') if 'native' in line})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"
    return done.stdout.strip()


def test_it_is_built_once_and_closed_to_other_users(cached: Path) -> None:
    assert [path.stat().st_mode & 0o077 for path in (cached, cached.parent)] == [0, 0]
    before = cached.stat()
    assert load_in_a_process() == str(cached)
    assert cached.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("size", [0, 100, 4096, 10_000])
def test_a_truncated_library_is_built_again(cached: Path, size: int) -> None:
    whole = cached.read_bytes()
    os.truncate(cached, size)
    assert load_in_a_process() == str(cached)
    assert len(cached.read_bytes()) == len(whole)


def test_a_changed_library_a_lost_sum_and_a_link_are_replaced(cached: Path, tmp_path: Path) -> None:
    def foreign() -> None:
        cached.write_bytes(b"\x7fELF, but not ours")

    def link() -> None:
        cached.rename(tmp_path / "elsewhere.so")
        cached.symlink_to(tmp_path / "elsewhere.so")

    for change in (foreign, cached.with_suffix(".sha256").unlink, link, lambda: cached.chmod(0o666)):
        change()
        assert load_in_a_process() == str(cached)
        assert not cached.is_symlink() and cached.stat().st_mode & 0o077 == 0 and cached.stat().st_size > 10_000


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_is_not_loaded(cached: Path) -> None:
    os.chown(cached, 12345, -1)
    assert load_in_a_process() == str(cached)
    assert cached.stat().st_uid == 0  # built again
    os.chown(cached.parent, 12345, -1)
    assert "adamwprune" not in load_in_a_process()  # built for that process alone


def test_a_folder_that_is_a_link_is_not_used(cached: Path, tmp_path: Path) -> None:
    cached.parent.rename(tmp_path / "elsewhere")
    cached.parent.symlink_to(tmp_path / "elsewhere")
    assert str(tmp_path) not in load_in_a_process()


def test_a_relative_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert load_in_a_process().startswith(str(tmp_path / "home" / ".cache" / "adamwprune"))
    assert not (ROOT / "here").exists()


def test_no_home_folder_and_a_cache_that_cannot_be_written_are_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cpu.load() is not None  # built for this process alone
    cpu.load.cache_clear()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert cpu.load() is not None
    cpu.load.cache_clear()
    monkeypatch.setattr(subprocess, "run", fails)
    assert cpu.load() is None


def fails(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(1, "cc")
