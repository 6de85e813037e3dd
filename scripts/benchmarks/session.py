"""Measure parts one after the other: what is under way is shown, and each row is written as soon as it is known."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import torch

from lib.monitor.host import cores
from lib.storage.files import write_atomic

from . import PARTS
from .interleaved import Events, Round, Row


class Session:
    """The measurements of one call of bench.py.

    Args:
        path: file that grows with every row; it is not made before there is one.
        device: where to measure.
        rounds: how often alternatives are compared, of which each part takes what suits it.

    Attributes:
        result: what the file holds. `complete` says whether all parts were measured to their end.
    """

    def __init__(self, path: Path, device: torch.device, rounds: int) -> None:
        self.path, self.device, self.rounds = path, device, rounds
        torch.set_num_threads(cores())
        on_gpu = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        self.result: dict[str, Any] = {"device": name, "torch": torch.__version__, "rounds": rounds}
        self.result |= {"complete": False, "rows": []}

    def measure(self, parts: Iterable[str]) -> bool:
        """Measure these parts and return True; False where Ctrl-C has ended it before."""
        threads = torch.get_num_threads()
        progress = Progress(sys.stderr)
        try:
            for part in parts:
                progress.show(part, "preparing")
                module = importlib.import_module(f"scripts.benchmarks.{PARTS[part]}")
                self._take(part, module.measure(self.device, self.rounds), progress)
                torch.set_num_threads(threads)  # a run sets its own
            self.result["complete"] = True
            self._write()
        except KeyboardInterrupt:
            return False
        finally:
            progress.end()
        return True

    def _take(self, part: str, events: Events, progress: Progress) -> None:
        with closing(events):
            for event in events:
                if isinstance(event, Row):
                    self.result["rows"].append(dataclasses.asdict(event))
                    self._write()
                else:
                    progress.show(part, describe(event), new=event.number == 0)

    def _write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_atomic(self.path, json.dumps(self.result, indent=1) + "\n", follow=True)


def describe(event: Round) -> str:
    """Return which round of which comparison starts."""
    number = f"round {event.number} of {event.rounds}" if event.number else f"warming up for {event.rounds} rounds"
    return f"{event.part}: {number}"


class Progress:
    """One line on a terminal that says what is under way; elsewhere a line for each comparison."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.start = stream, time.monotonic()
        self.live = stream.isatty()

    def show(self, part: str, what: str, new: bool = True) -> None:
        """Show a line; where it cannot take the place of the last one, only if it is about something new."""
        seconds = int(time.monotonic() - self.start)
        line = f"{seconds // 60}:{seconds % 60:02} {part}: {what}"
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)
        elif new:
            print(line, file=self.stream, flush=True)

    def end(self) -> None:
        """Leave an empty line for what is printed next."""
        if self.live:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
