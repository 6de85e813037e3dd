"""Data that has to be fetched: once, whole or not at all, and one sentence where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lib.data import download, sources
from lib.data.errors import DataError
from lib.data.sources import locate
from lib.storage.project import ROOT


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Path]:
    """Stands in for torchvision's download of small files; returns where it was asked to put them."""
    asked: list[Path] = []
    monkeypatch.setattr(sources, "MNIST_FILES", {"a": "0cc175b9c0f1b6a831c399e269772661"})  # MD5 of b"a"

    def fake(_: str, temporary: Path, *__: Any) -> None:
        asked.append(temporary)
        (temporary / "MNIST" / "raw").mkdir(parents=True)
        (temporary / "MNIST" / "raw" / "a").write_bytes(name.encode())

    monkeypatch.setattr(download, "run_torchvision", fake)  # what alone reaches for the network
    return asked


def test_two_that_download_at_once_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_torchvision(monkeypatch, "a")
    threads = [threading.Thread(target=locate, args=("mnist", tmp_path, True)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert (tmp_path / "MNIST" / "raw" / "a").read_bytes() == b"a"
    assert not list(tmp_path.glob(".download-*"))


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "socket.py").write_text("open('owned', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "DOWNLOAD", "import socket, sys; print(socket.SOCK_STREAM, sys.argv)")
    with pytest.raises(DataError, match="incomplete"):
        locate("mnist", tmp_path / "data", download=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "socket.py"]


def test_three_processes_that_download_at_once_download_once(tmp_path: Path) -> None:
    folder, count = tmp_path / "data", tmp_path / "count"
    program = (
        "import sys, time; from pathlib import Path; raw = Path(sys.argv[2], 'MNIST', 'raw'); raw.mkdir(parents=True);"
        f"open({str(count)!r}, 'a').write('once '); time.sleep(0.3); (raw / 'a').write_bytes(b'a')"
    )
    code = (
        f"from lib.data import download, sources; download.DOWNLOAD = {program!r}\n"
        "sources.MNIST_FILES = {'a': '0cc175b9c0f1b6a831c399e269772661'}\n"
        f"print(sources.locate('mnist', {str(folder)!r}, download=True).path)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{folder / 'MNIST' / 'raw'}\n"] * 3
    assert count.read_text() == "once "
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "MNIST"]


def test_what_arrives_damaged_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchvision(monkeypatch, "b")
    with pytest.raises(DataError, match="MD5"):
        locate("mnist", tmp_path, download=True)
    assert not list(tmp_path.rglob("a"))


def test_a_killed_download_leaves_nothing_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".download-killed").mkdir()
    (tmp_path / ".download-killed" / "half").write_bytes(b"?")
    fake_torchvision(monkeypatch, "a")
    locate("mnist", tmp_path, download=True)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".lock", "MNIST"]


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DOWNLOAD", "raise OSError('Name or service not known')")
    with pytest.raises(
        DataError, match=r"could not be downloaded \(OSError: Name or.*; without a network, fill"
    ) as error:
        locate("mnist", tmp_path, download=True)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(DataError, match="Permission denied"):
        locate("mnist", tmp_path / "new", download=True)
