"""The first install: announced, shown, done once, and nothing done to an environment of the user's."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from lib.storage.project import ROOT
from scripts import install

SCRIPT = ROOT / "scripts" / "install.py"


def test_a_package_that_is_missing_is_named_and_nothing_is_installed(tmp_path, capsys):
    (tmp_path / "more.txt").write_text("no-such-package-a>=1 # why\n")
    (tmp_path / "all.txt").write_text("# comment\n\n-r more.txt\npytest>=1\nno_such_package_b\n")
    assert install.check(tmp_path / "all.txt", None) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "lacks no-such-package-a, no_such_package_b:" in sentence


def test_an_environment_that_has_everything_passes(tmp_path, capsys):
    (tmp_path / "all.txt").write_text("pytest>=1\nhypothesis\n")
    assert install.check(tmp_path / "all.txt", None) == 0
    assert capsys.readouterr() == ("", "")


def environment(folder: Path) -> Path:
    """An environment that is there already: its python is the one that runs the tests."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.soak
def test_an_environment_is_made_where_there_is_none(tmp_path):
    (tmp_path / "none.txt").write_text("# nothing\n")
    command = [sys.executable, str(SCRIPT), "its own", "none.txt", "its own/.packages"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "its own" / "bin" / "python", "-m", "pip", "--version"], check=True)


def test_of_two_at_once_one_sets_up_and_both_find_it_ready(tmp_path):
    environment(tmp_path / "its own")
    (tmp_path / "none.txt").write_text("# nothing\n")
    command = [sys.executable, str(SCRIPT), "its own", "none.txt", "its own/.packages"]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = "".join(process.communicate(timeout=120)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert messages.count("setting up") == 1
    assert (tmp_path / "its own" / ".packages").exists()


def test_packages_that_cannot_be_had_end_in_a_sentence_and_without_a_stamp(tmp_path):
    environment(tmp_path / ".venv")
    (tmp_path / "wrong.txt").write_text("./no-such-folder\n")
    command = [sys.executable, str(SCRIPT), ".venv", "wrong.txt", ".venv/.packages"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("the packages of wrong.txt could not be installed")
    assert not (tmp_path / ".venv" / ".packages").exists()


def test_a_folder_that_cannot_be_made_ends_in_a_sentence(tmp_path):
    (tmp_path / "venv").write_text("a file in its place")
    command = [sys.executable, str(SCRIPT), "venv", str(Path(__file__)), "venv/.packages"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def wheels(folder: Path, *names: str) -> Path:
    """Wheels that hold nothing but a name and a version, as "torch-2.99.0+cpu"."""
    folder.mkdir()
    for name in names:
        project, _, version = name.partition("-")
        with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
            info = f"{name}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.mark.parametrize(
    ("offered", "code", "installed"),
    [
        (["torch-2.99.0", "torch-2.99.0+cpu", "torchvision-0.99.0+cpu", "some-1.0"], 0, ["2.99.0+cpu", "0.99.0+cpu"]),
        (["torch-2.99.0", "torchvision-0.99.0", "some-1.0"], 2, []),
        (["torch-2.99.0+cpu", "torchvision-0.99.0", "some-1.0"], 2, []),  # they would not fit together
        (["torch-2.10.0+cpu", "torchvision-0.99.0+cpu", "some-1.0"], 2, []),  # too old
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has builds with CUDA beside those for CPUs alone")
def test_torch_for_cpus_alone_is_installed_where_it_can_be_had(
    offered: list[str], code: int, installed: list[str], tmp_path: Path
) -> None:
    environment(tmp_path / ".venv")
    (tmp_path / "all.txt").write_text("torch>=2.11 # why\ntorchvision>=0.26\nsome\n")
    # What pip installs goes into a folder of the test, not to the Python that runs it.
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels(tmp_path / "wheels", *offered))}
    settings |= {"PIP_TARGET": str(tmp_path / "target"), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(SCRIPT), ".venv", "all.txt", ".venv/.packages", "--torch", "cpu"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, **settings}
    )
    assert done.returncode == code, done.stderr
    found = {
        path.name.removesuffix(".dist-info").partition("-")[2] for path in tmp_path.glob("target/torch*.dist-info")
    }
    assert found == set(installed)
    assert (tmp_path / ".venv" / ".packages").exists() == (code == 0)
    if code:
        assert "for CPUs alone" in done.stderr.splitlines()[-1] and "about 6 GB" in done.stderr


def test_size_is_said_before_anything_is_installed_and_what_would_be_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = environment(tmp_path / ".venv")
    monkeypatch.setattr(install, "has_gpu", lambda: True)
    install.announce(folder, Path("all.txt"), None)
    assert "about 6 GB" in (said := capsys.readouterr().err) and "TORCH" not in said
    monkeypatch.setattr(install, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    install.announce(folder, Path("all.txt"), None)
    assert "`make TORCH=cpu`" in capsys.readouterr().err
    install.announce(folder, Path("all.txt"), "cpu")
    assert "about 2 GB" in (said := capsys.readouterr().err) and "TORCH" not in said
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: SimpleNamespace(free=3.21e9))
    install.announce(folder, Path("all.txt"), None)
    assert "only 3.2 GB are free" in capsys.readouterr().err
    (folder / ".packages").touch()
    install.announce(folder, Path("more.txt"), None)
    assert capsys.readouterr().err == f"adding more.txt to {folder}\n"


def test_another_torch_than_the_one_asked_for_is_left_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.txt").write_text("pytest\n")
    monkeypatch.setattr(install, "torch_build", lambda: {"__version__": "2.99.0+cu132", "cuda": "13.2"})
    assert install.main(["--check", str(tmp_path / "all.txt"), "--torch", "cpu"]) == 2
    assert "torch 2.99.0+cu132" in (said := capsys.readouterr().err) and "make mrproper" in said
    monkeypatch.setattr(install, "torch_build", lambda: {"__version__": "2.99.0+cpu"})
    assert install.main(["--check", str(tmp_path / "all.txt"), "--torch", "cpu"]) == 0
    assert install.main(["--check", str(tmp_path / "all.txt"), "--torch", "gpu"]) == 2
    assert "TORCH=gpu: cpu is expected" in capsys.readouterr().err


def test_progress_of_pip_is_shown(tmp_path: Path) -> None:
    environment(tmp_path / ".venv")
    (tmp_path / "all.txt").write_text("some\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels(tmp_path / "wheels", "some-1.0"))}
    settings |= {"PIP_TARGET": str(tmp_path / "target"), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(SCRIPT), ".venv", "all.txt", ".venv/.packages"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, **settings}
    )
    assert done.returncode == 0 and done.stdout == ""
    assert "Processing" in done.stderr and "some-1.0" in done.stderr


@pytest.mark.skipif(not install.lock_fits(), reason="the lock is made for another system")
@pytest.mark.parametrize(
    ("sound", "option", "code", "installed"),
    [(True, [], 0, "1.0"), (False, [], 2, None), (False, ["--lock", "n"], 0, "2.0")],
)
def test_a_new_environment_gets_what_the_lock_pins_and_nothing_with_another_hash(
    sound: bool, option: list[str], code: int, installed: str | None, tmp_path: Path
) -> None:
    environment(tmp_path / ".venv")
    folder = wheels(tmp_path / "wheels", "some-1.0", "some-2.0")
    digest = hashlib.sha256((folder / "some-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (tmp_path / "all.txt").write_text("some>=1\n")
    (tmp_path / "requirements.lock").write_text(f"some==1.0 --hash=sha256:{digest if sound else digest[::-1]}\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    settings |= {"PIP_PREFIX": str(tmp_path / "prefix")}
    command = [sys.executable, str(SCRIPT), ".venv", "all.txt", ".venv/.packages", *option]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, **settings}
    )
    assert done.returncode == code, done.stderr
    found = [path.name for path in tmp_path.glob("prefix/lib/*/site-packages/some-*.dist-info")]
    if installed:
        assert f"some-{installed}.dist-info" in found
    else:
        assert found == [] and "`make LOCK=n`" in done.stderr.splitlines()[-1]


def test_the_lock_pins_what_the_requirements_ask_for() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {match[1]: match[2] for line in lines if (match := re.match(r"([\w.-]+)==(\S+)", line))}
    assert lines[1].strip("# ") == "make lock"
    for name, line in install.wanted(ROOT / "requirements.txt").items():
        asked = Requirement(line)
        assert asked.specifier.contains(pinned[name.lower()]), line
    hashes = sum("--hash=sha256:" in line for line in lines)
    assert hashes >= len(pinned) >= 12
