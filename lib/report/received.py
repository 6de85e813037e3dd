"""Read files of a results folder that may come from anybody: regular files only, and never more than a bound."""

from __future__ import annotations

import os
from pathlib import Path

from ..storage.received import open_regular

PNG = b"\x89PNG\r\n\x1a\n"  # what every PNG file begins with
PICTURE_BYTES = 32 * 2**20


def read_no_link(path: Path, most: int, tail: bool = False) -> bytes | None:
    """Return the first `most` bytes of a file, or its last ones; None where it is absent, a link or no regular file."""
    try:
        with open_regular(path, follow=False) as file:
            if tail:
                file.seek(-min(most, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read(most)
    except OSError:
        return None


def read_png(path: Path) -> bytes | None:
    """Return a picture; None for a link, for whatever is no PNG by its first bytes, and for one beyond all measure."""
    content = read_no_link(path, PICTURE_BYTES + 1)
    return content if content and content.startswith(PNG) and len(content) <= PICTURE_BYTES else None
