"""Replace the pictures of a folder, all or none, without following a link that others may have put there."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from ..storage.received import open_folder_no_link, refusal

PER_OPTIMIZER = re.compile(r"\w+_(model_comparison|accuracy_evolution)\.png")


def replace_pictures(
    root: Path, below: Sequence[str], files: dict[str, bytes | None], beside: dict[str, bytes] | None = None
) -> int:
    """Write pictures into a folder, and remove older ones of ours that are not drawn any more; return their number.

    Args:
        root: an existing folder.
        below: names of folders from there to that of the pictures, made if missing. None may be a link.
        files: content by file name; None for a picture that is not drawn.
        beside: content of other files that belong to the pictures.
    """
    drawn = {name: content for name, content in files.items() if content is not None}
    handle = open_folder_no_link(root, *below)
    try:
        _replace_all(handle, root.joinpath(*below), drawn | (beside or {}))
        with os.scandir(handle) as entries:
            older = [e.name for e in entries if e.name in files or PER_OPTIMIZER.fullmatch(e.name)]
        for name in older:
            if name not in drawn:
                os.unlink(name, dir_fd=handle)
    finally:
        os.close(handle)
    return len(drawn)


def _replace_all(handle: int, folder: Path, contents: dict[str, bytes]) -> None:
    """Write every file beside its place before the first takes it: a full disk leaves all as they were."""
    temporaries: dict[str, str] = {}
    try:
        for name, content in contents.items():
            if _is_link(handle, name):
                raise refusal(folder / name)
            temporaries[name] = f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
            descriptor = os.open(temporaries[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=handle)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        for name in contents:
            os.replace(temporaries.pop(name), name, src_dir_fd=handle, dst_dir_fd=handle)
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=handle)


def _is_link(handle: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)
    except FileNotFoundError:
        return False
