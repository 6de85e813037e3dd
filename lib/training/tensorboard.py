"""Write the metrics of a run as TensorBoard event files, without TensorBoard or any other package.

An event file is a sequence of records, each ``length (8 bytes), crc(length) (4), data, crc(data) (4)``, little-endian,
with the masked CRC-32C of TFRecord. The data is a protocol-buffer message ``Event``, of which four fields are used:

    Event        1: wall_time (double)   2: step (int64)   3: file_version (string)   5: summary (Summary)
    Summary      1: value (repeated Value)
    Value        1: tag (string)         2: simple_value (float)
"""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .run_log import display_path

PREFIX = "events.out.tfevents."
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _checked(data: bytes) -> bytes:
    """Return `data` followed by its checksum, rotated and shifted as TFRecord requires."""
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return data + struct.pack("<I", masked)


def _record(event: bytes) -> bytes:
    return _checked(struct.pack("<Q", len(event))) + _checked(event)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, data: bytes) -> bytes:
    """Return a field that holds text or another message."""
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _event(wall_time: float, step: int, body: bytes) -> bytes:
    return _record(struct.pack("<Bd", 1 << 3 | 1, wall_time) + bytes([2 << 3]) + _varint(step) + body)


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield tag and value of each number in a line of the metrics: `memory/weights`, `accuracy/test`, ...

    A value that is not a finite number is left out: a gap, not a zero.
    """
    for name, value in record.items():
        if name in ("epoch", "time"):
            continue
        if isinstance(value, Mapping):
            yield from ((f"{name}/{part}", v) for part, v in scalars(value))
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            split, _, quantity = name.partition("_")
            yield (f"{quantity}/{split}" if split in ("train", "test", "validation") else name), float(value)


class Events:
    """Write the event file of one run. A resumed run replaces it, so that no epoch is in it twice.

    If the file cannot be written, `warn` is called once and training continues: the metrics are kept elsewhere.
    """

    def __init__(self, folder: Path, history: Iterable[Mapping[str, Any]] = (), warn: Callable[[str], object] = print):
        self.warn, self.broken = warn, False
        now = time.time()
        self.path = folder / f"{PREFIX}{int(now)}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for older in folder.glob(f"{PREFIX}*"):
                older.unlink()
        except OSError as error:
            self._give_up(error)
        self._append(_event(now, 0, _message(3, b"brain.Event:2")))
        for record in history:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append the metrics of one epoch; the step is the epoch."""
        values = b"".join(
            _message(1, _message(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
            for tag, value in scalars(record)
        )
        self._append(_event(float(record.get("time") or time.time()), int(record["epoch"]), _message(5, values)))

    def _append(self, data: bytes) -> None:
        if self.broken:
            return
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.broken = True
        self.warn(f"warning: no more TensorBoard events, {self.path.parent} cannot be written: {error.strerror}")


def how_to_look(folder: Path) -> str:
    """Return the command that shows the event files below `folder`, and how to install TensorBoard if it is missing."""
    program = display_path(Path(sys.executable).with_name("tensorboard"))
    command = shlex.join([program, "--logdir", display_path(folder)])
    missing = importlib.util.find_spec("tensorboard") is None
    return f"TensorBoard: {command}" + (" (`make deps-tensorboard` installs it)" if missing else "")
