"""Bring the files of a published data set to their place, whole or not at all: unpack them or download them.

Files are compared with their published MD5 sums, and one process at a time fetches into a folder. No import of torch.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from ..storage.locks import locked
from ..storage.project import ROOT
from .errors import DataError

# Runs in a process of its own, so that the caller never imports torch; a dead connection ends after a minute.
DOWNLOAD = (
    "import socket, sys; socket.setdefaulttimeout(60); from torchvision import datasets;"
    "getattr(datasets, sys.argv[1])(sys.argv[2], download=True)"
)

MOST_UNPACKED = 64 * 2**20  # bytes; MNIST's largest file has 47 million


def absent_message(name: str, advice: str, instead: str) -> str:
    """Return the sentence for a data set that is absent: what to do about it, and what can be had `instead`."""
    return f"{name} is not there: {advice}, or choose another dataset ({instead})"


def is_complete(folder: Path, files: dict[str, str]) -> bool:
    """Return whether all of the files are there. Raises DataError for one that is there but damaged."""
    present = [name for name in files if (folder / name).is_file()]
    for name in present:
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != files[name]:
            raise DataError(
                f"{folder / name} is damaged or half downloaded: its MD5 is {found}, not {files[name]}; "
                "remove it and start again"
            )
    return len(present) == len(files)


def unpack(folder: Path, target: Path, files: dict[str, str]) -> bool:
    """Unpack the files that lie there as `<name>.gz`. Return whether all are there then."""
    missing = [name for name in files if not (target / name).is_file()]
    if not all((target / f"{name}.gz").is_file() for name in missing):
        return False
    with (
        locked(folder / ".lock", wait=None),
        tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary,
    ):
        for name in missing:
            packed = target / f"{name}.gz"
            try:
                with gzip.open(packed) as source:
                    content = source.read(MOST_UNPACKED)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(
                    f"{packed} is damaged or half downloaded: {error}; remove it and start again"
                ) from error
            fresh = Path(temporary, name)
            fresh.write_bytes(content)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != files[name]:
                raise DataError(f"{packed} does not hold {name} as published; remove it and start again")
            fresh.replace(target / name)
    return is_complete(target, files)


def download_missing(name: str, folder: Path, target: Path, files: dict[str, str], archive: Path | None = None) -> None:
    """Let torchvision download into a folder beside, then move what is missing: no half file is ever seen."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=None):
        if is_complete(target, files):  # another process was quicker
            return
        for leftover in folder.glob(".download-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            fresh = Path(temporary) / target.relative_to(folder)
            if archive is not None:
                (Path(temporary) / archive.name).symlink_to(archive)
            run_torchvision(name, Path(temporary), folder, target)
            if not is_complete(fresh, files):
                raise DataError(f"{name}: the download into {folder} is incomplete; start again")
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                (fresh / file).replace(target / file)


def run_torchvision(name: str, temporary: Path, folder: Path, target: Path) -> None:
    print(f"{name}: downloading into {folder}", file=sys.stderr, flush=True)
    # -P and a folder of the project: a module that somebody left in the current folder is not imported.
    command = [sys.executable, "-P", "-c", DOWNLOAD, name, str(temporary.absolute())]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        instead = {"MNIST": "mnist5k or synthetic"}.get(name, "synthetic")
        advice = f"it could not be downloaded ({reason}); without a network, fill {target} by hand"
        raise DataError(absent_message(name, advice, instead))
