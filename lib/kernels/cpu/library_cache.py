"""Keep the compiled library in a folder that only this user can write, and check it before it is loaded.

What is loaded runs with the user's rights, so that neither a library that somebody else has put there nor a damaged
one may be used: the linker does not check, and a truncated file ends the process with SIGBUS.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


def private_folder() -> Path:
    """Return the cache folder, created if needed and closed to other users.

    Raises OSError if it belongs to another user or cannot be written, and RuntimeError if there is no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (base if base.is_absolute() else Path.home() / ".cache") / "adamwprune"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is a link or belongs to another user")
    folder.chmod(0o700)
    return folder


def is_intact(library: Path) -> bool:
    """Return whether the library is the one that `store` wrote, and no other user can have changed it."""
    try:
        content, recorded = _read(library), _read(_sum_file(library))
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest().encode() == recorded


def store(built: Path, library: Path) -> None:
    """Move a library that was built beside it to its place, durably, and record its sum."""
    recorded = built.with_suffix(".sha256")
    recorded.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
    for path in (recorded, built):
        path.chmod(0o700)  # whatever the umask leaves open
        with path.open("rb") as file:
            os.fsync(file.fileno())
    recorded.replace(_sum_file(library))
    built.replace(library)


def _sum_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _read(path: Path) -> bytes:
    """Return the content of a regular file of this user. Raises OSError for anything else, links included."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or writable_by_others:
            raise PermissionError(f"{path} may have been changed by another user")
        return file.read()
