"""Lock between processes by flock, which the kernel releases when the holder dies. No import of torch."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .received import open_no_link

LENGTH = 256  # bytes of a lock file: process and machine, then blanks
HOLDER = re.compile(rb"(\d+ ?\S*\s*)?")


class Locked(Exception):
    """Another process holds the lock; `pid` is its number, or None where it cannot be told, `host` its machine."""

    def __init__(self, path: Path, pid: int | None, host: str = ""):
        self.path, self.pid, self.host = path, pid, host
        holder = f"process {pid}" if pid else "another process"
        where = f" on {host}" if host and host != socket.gethostname() else ""
        super().__init__(f"{path.parent} is in use by {holder}{where}")


@contextlib.contextmanager
def locked(path: Path, wait: float | None = 0.0) -> Iterator[None]:
    """Hold the lock file `path` (made if missing, never removed: removing it would let two in).

    Waits up to `wait` seconds for the holder (None: for ever), then raises Locked.
    """
    deadline = math.inf if wait is None else time.monotonic() + wait
    handle = open_no_link(path, os.O_RDWR)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Locked(path, *_holder(handle)) from None
                time.sleep(0.05)
        # the name is only for the message of the one who finds it locked; a full disk is no reason to stop
        with contextlib.suppress(OSError):
            if HOLDER.fullmatch(os.pread(handle, LENGTH + 1, 0)):  # whatever else a file holds is left in it
                os.pwrite(handle, f"{os.getpid()} {socket.gethostname()}".encode()[:LENGTH].ljust(LENGTH), 0)
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> tuple[int | None, str]:
    """Return process and machine that the lock file names."""
    try:
        pid, _, host = os.pread(handle, LENGTH, 0).decode(errors="replace").strip().partition(" ")
        return int(pid), host
    except (OSError, ValueError):
        return None, ""
