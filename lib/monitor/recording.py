"""Write and read recordings: files of whole lines, one for each sample, as JSON or as CSV under a heading."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from ..storage.files import MAX_LINE, read_json_lines, read_lines
from ..storage.received import open_regular
from .devices import READINGS

Record = dict[str, Any]

COLUMNS = ("time", "phase", "gpu", "process_mib", *READINGS, "host_rss_mib", "host_used_mib", "host_total_mib")


#: Of a longer recording (two days of one device, a sample a second) every n-th sample is read.
MAX_SAMPLES = 200_000


class LineFile:
    """A file that grows by whole lines. A full disk or a removed folder costs lines, never the program."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self.handle).st_size
        self.empty = size == 0
        # A tail torn by an earlier end must not swallow the first new line.
        if size and os.pread(self.handle, 1, size - 1) != b"\n":
            os.write(self.handle, b"\n")

    def write(self, line: str) -> None:
        """Append one line in one write, so that a reader never sees two halves mixed."""
        with contextlib.suppress(OSError):
            os.write(self.handle, line.encode() + b"\n")


def as_line(record: Record) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(record, separators=(",", ":"))


def as_csv(record: Record) -> str:
    """Return a record as one line of COLUMNS; what is not known is an empty cell."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["" if (v := record.get(c)) is None else v for c in COLUMNS])
    return line.getvalue()


def load(path: Path) -> tuple[list[Record], int]:
    """Return the samples of a recording, or of a run's folder, in order of time, and how many torn lines were dropped.

    Of more than MAX_SAMPLES every n-th is read. Raises OSError where there is no such file, or not one sample in it.
    """
    file = path / "gpu.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such recording")
    records, dropped = read_csv(file) if is_csv(file) else read_json_lines(file, MAX_SAMPLES)
    samples = [r for r in records if isinstance(r, dict) and number(r.get("time")) is not None]
    dropped += len(records) - len(samples)
    if dropped and not samples:
        raise OSError(f"{file}: no sample in it; what --output wrote can be read, lines of JSON or CSV")
    return sorted(samples, key=lambda record: record["time"]), dropped


def is_csv(file: Path) -> bool:
    """Return whether the file begins with the heading of a CSV recording."""
    with file.open("rb") as opened:
        return opened.read(5) == b"time,"


def read_csv(file: Path) -> tuple[list[Record], int]:
    """Return the records of a CSV file, with the columns its heading names, and how many torn lines were dropped."""
    records, dropped = [], 0
    with open_regular(file) as opened:
        heading = opened.readline(MAX_LINE)
        names = heading.decode(errors="replace").rstrip("\n").split(",")
        for line in read_lines(opened, MAX_SAMPLES):
            # Where the last line has no end, its last figure may lack digits.
            record = parse_row(names, line.decode(errors="replace")) if line.endswith(b"\n") else None
            if record is not None:
                records.append(record)
            elif line.strip() and line != heading:
                dropped += 1
    return records, dropped


def parse_row(names: list[str], line: str) -> Record | None:
    """Return the record that a line of CSV was made from; None where it has not as many cells as `names`."""
    cells = next(csv.reader([line.rstrip("\n")]), [])
    record: Record = {"gpu": None}
    try:
        for name, cell in zip(names, cells, strict=True):
            if name == "phase" or (name == "gpu" and not cell.isdecimal()):
                record |= {name: cell} if cell else {}
            elif cell:
                record[name] = int(cell) if name == "gpu" else float(cell)
    except ValueError:
        return None
    return record


def number(value: Any) -> float | None:
    """Return the value if it is a finite number, else None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
