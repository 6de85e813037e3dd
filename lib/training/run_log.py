"""Write the messages of a run to its log and to the terminal. No import of torch."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ..storage.received import open_no_link
from ..storage.run_dir import RunDir


class RunLog:
    """Print lines on stdout and append them to log.txt; only once where stdout is that file already."""

    def __init__(self, run: RunDir):
        handle = open_no_link(run.log, os.O_WRONLY | os.O_APPEND)
        self.file = os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace", buffering=1)
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(os.fstat(self.file.fileno()), os.fstat(sys.stdout.fileno())):
                self.file.close()
        self.stdout_is_open = True

    def __call__(self, line: str) -> None:
        """Print and log a line."""
        self.details(line + "\n")
        if self.stdout_is_open:
            try:
                print(line, flush=True)
            except OSError:  # the reader of a pipe has gone, which is no reason to stop training
                self.stdout_is_open = False

    def details(self, text: str) -> None:
        """Write text to the log only."""
        if not self.file.closed:
            self.file.write(text)
        elif text.count("\n") > 1:
            print(text, end="", file=sys.stderr, flush=True)


def display_path(folder: Path) -> str:
    """Return a folder as a user types it: relative to the current folder or absolute, whichever is shorter."""
    return min(os.path.relpath(folder), str(folder.resolve()), key=len)
