"""Reading files of a results folder that may come from anybody: regular files only, and never more than a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"  # what every PNG file begins with
PICTURE_BYTES = 32 * 2**20


def read_no_link(path: Path, most: int, tail: bool = False) -> bytes | None:
    """Return the first `most` bytes of a file, or its last ones; None where it is absent, a link or no regular file.

    The file is judged by its descriptor after it was opened, without waiting for the writer of a FIFO.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        if tail:
            file.seek(max(found.st_size - most, 0))
        return file.read(most)


def read_png(path: Path) -> bytes | None:
    """Return a picture; None for a link, for whatever is no PNG by its first bytes, and for one beyond all measure."""
    content = read_no_link(path, PICTURE_BYTES + 1)
    return content if content and content.startswith(PNG) and len(content) <= PICTURE_BYTES else None
