"""Files in folders that others may write: none is read that could hang, none is written through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class Refused(OSError):
    """What the path leads to is left alone: it is a link, no regular file, or too large."""


def open_regular(path: Path, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading.

    Raises Refused for a pipe or a device, without waiting for it, and OSError for a link unless links are followed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise Refused(None, "not a regular file", str(path))


def open_no_link(path: Path, flags: int) -> int:
    """Open a regular file for writing, made if missing. Raises Refused for a symbolic link, a pipe or a device.

    Returns a descriptor, opened with `flags` (`os.O_WRONLY | os.O_APPEND`, `os.O_RDWR`) and without truncating.
    """
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
            raise refusal(path) from None
        raise
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise refusal(path)


def open_folder_no_link(root: Path, *names: str) -> int:
    """Open the folder `names` below `root`, made if missing, and return its descriptor.

    `root` itself may be reached through links, which are its owner's. Raises Refused for a symbolic link below it: the
    descriptor that is returned leads to a folder that was reached through none.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    handle = os.open(root, flags)
    for depth, name in enumerate(names, 1):
        parent = handle
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)
            handle = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                reason = "is a link or not a folder, so nothing is written below it"
                raise Refused(None, reason, str(root.joinpath(*names[:depth]))) from None
            raise
        finally:
            os.close(parent)
    return handle


def refusal(path: Path) -> Refused:
    """Return the error for a path that is not written to."""
    return Refused(None, "is a link or not a regular file, so nothing is written to what it leads to", str(path))


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
