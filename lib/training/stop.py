"""Requests to stop: Ctrl-C, SIGTERM, or a terminal that goes away. No import of torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopSignals:
    """Count the requests to stop that reach this process inside the `with` block.

    The first asks to finish the current step and save, the second to end at once; what that means is up to the user of
    this class. Under nohup a lost terminal is no request.

    Args:
        parent: process number; the end of that process counts as a request too. 0: there is no such process.

    Attributes:
        count: requests so far.
        number: signal of the first request, 0 before; SIGTERM where the terminal or the parent is gone.
        on_request: called with the signal's number at each request, from the signal handler.
    """

    def __init__(self, parent: int = 0, on_request: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self.number = 0
        self.parent = parent
        self.on_request = on_request
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if not (number == signal.SIGHUP and before == signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self.handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Count one request. The signal handler."""
        self.count += 1
        self.number = self.number or (signal.SIGTERM if number == signal.SIGHUP else number)
        if self.on_request is not None:
            self.on_request(number)

    def requested(self) -> bool:
        """Return whether anything has asked to stop, the end of the parent included."""
        if not self.count and self.parent and os.getppid() != self.parent:
            self.count, self.number = 1, signal.SIGTERM
        return self.count > 0

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM or a lost terminal, 0 if nothing asked to stop."""
        return 128 + self.number if self.count else 0
