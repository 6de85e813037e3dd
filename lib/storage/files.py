"""Write and read the files of a results folder.

A reader may come at any moment and a writer may be killed at any moment, so: whole files are
replaced by rename, lines are appended by one write, and readers drop what is torn.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from .received import Refused, open_no_link, open_regular, read_regular, refusal

#: Bytes; a line of a record that is longer was not written by this program, and is taken for torn.
MAX_LINE = 1 << 20

LEFTOVER = re.compile(r"\..+\.\d+(-[0-9a-f]+)?\.tmp")


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True, follow: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` when the block ends well, and is removed if it does not.

    Args:
        path: the file. A link is refused, which raises Refused, or followed, so that it stays one.
        durable: whether to wait for the disk.
        follow: whether links are followed: for what the user chose, never for what a folder of others holds.
    """
    target = Path(os.path.realpath(path)) if follow else path
    if target.is_symlink():
        raise refusal(path)
    # a name that nobody can have put a link under
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes, durable: bool = True, follow: bool = False) -> None:
    """Write the whole file or nothing: readers see the old content or the new, never half of it."""
    with replacing(path, durable, follow) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


def remove_leftovers(folder: Path) -> list[str]:
    """Remove the temporary files of killed writers, return their names. Call with the lock held."""
    names = sorted(p.name for p in folder.iterdir() if LEFTOVER.fullmatch(p.name)) if folder.is_dir() else []
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return names


def jsonable(value: Any) -> Any:
    """Return the same value as strict JSON can hold it: non-finite floats become None, paths and others text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return str(value)


def write_json(path: Path, record: dict[str, Any], durable: bool = True) -> None:
    """Write one record as an indented JSON file, whole or not at all."""
    write_atomic(path, json.dumps(jsonable(record), indent=2, allow_nan=False) + "\n", durable)


def read_json(path: Path) -> dict[str, Any]:
    """Return the record in `path`; {} where the file is missing or damaged."""
    try:
        record = _parse(read_regular(path))
    except OSError:
        return {}
    return record or {}


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a JSON object, or None for anything else. NaN and Infinity, if others wrote them, become None."""
    try:
        record = json.loads(line.decode(), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def append_json(path: Path, record: dict[str, Any]) -> None:
    """Append one record as one line. A torn tail is dropped first; a write that fails leaves no half line."""
    line = json.dumps(jsonable(record), allow_nan=False).encode() + b"\n"
    if _torn(path):
        repair_json_lines(path)
    handle = open_no_link(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(handle).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(handle, line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _torn(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def read_json_lines(path: Path, most: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a file of JSON lines, and how many torn, NUL-filled or foreign lines were dropped.

    Of more than `most` lines every n-th is read; the others cost neither memory nor much time.
    """
    records, dropped = [], 0
    try:
        with open_regular(path) as file:
            for line in read_lines(file, most):
                if (record := _parse(line)) is not None:
                    records.append(record)
                elif line.strip():
                    dropped += 1
    except (FileNotFoundError, Refused):
        return [], 0
    return records, dropped


def read_lines(file: BinaryIO, most: int | None = None) -> Iterator[bytes]:
    """Return the lines of a file from here on; of more than `most` every n-th, and none longer than MAX_LINE whole.

    n is a prime of at least 11: where the lines of up to ten devices take turns, all are met equally often.
    """
    step = 1
    if most is not None:
        start, count = file.tell(), 0
        while chunk := file.read(1 << 20):
            count += chunk.count(b"\n")
        file.seek(start)
        step = _prime_from(max(11, -(-count // most))) if count > most else 1
    lines = iter(lambda: file.readline(MAX_LINE), b"")
    return islice(lines, 0, None, step)


def _prime_from(number: int) -> int:
    """Return the least prime that is not below `number`, which is at least 2."""
    while any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace a file of JSON lines by these records, whole or not at all."""
    write_atomic(path, "".join(json.dumps(jsonable(r), allow_nan=False) + "\n" for r in records))


def repair_json_lines(path: Path) -> int:
    """Drop what is torn from a file of JSON lines, so that the next append starts on a line of its own.

    Returns how many lines were dropped. A whole file is left untouched.
    """
    records, dropped = read_json_lines(path)
    if dropped or _torn(path):
        write_json_lines(path, records)
    return dropped
