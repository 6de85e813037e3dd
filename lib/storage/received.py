"""Read files that others may have put there: regular ones alone, so that nothing hangs on a pipe or reads a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class Refused(OSError):
    """What the path leads to is not read: it is no regular file, or too large."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises Refused for a pipe or a device, without waiting for it."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise Refused(None, "not a regular file", str(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file. Raises Refused as `open_regular` does, or if it has over `most` bytes."""
    with open_regular(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise Refused(None, f"larger than {most:,} bytes", str(path))
        return file.read()


def is_private(path: Path) -> bool:
    """Return whether nobody but this user and root can have written the file or folder, which is no link."""
    try:
        status = path.lstat()
    except OSError:
        return False
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not stat.S_ISLNK(status.st_mode) and status.st_uid in (os.getuid(), 0) and not writable_by_others
