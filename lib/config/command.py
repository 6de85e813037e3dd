"""The exit code of a command, and the sentence for what keeps it from its work. No import of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..storage.locks import Locked
from ..storage.terminal import accept_any_encoding, visible
from .errors import CommandError

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def run_command(command: Callable[[], int], of_os_error: int = REFUSED) -> int:
    """Run a command and return its exit code. What it raises becomes a sentence on stderr.

    A CommandError or a lock that another process holds gives 2, Ctrl-C 130, and an OSError `of_os_error`: 1 of a
    command that may have done some of its work by then. Output may hold any text, whatever the terminal's encoding.
    """
    accept_any_encoding()
    try:
        code = command()
        sys.stdout.flush()
        return code
    except (CommandError, Locked) as error:
        print(visible(str(error), keep="\n"), file=sys.stderr)
        return REFUSED
    except BrokenPipeError:
        return reader_left()
    except OSError as error:
        parts = (error.filename, error.strerror or error)
        print(visible(": ".join(str(part) for part in parts if part)), file=sys.stderr)
        return of_os_error
    except KeyboardInterrupt:
        return INTERRUPTED


def reader_left() -> int:
    """Return the exit code of a command whose output went to a reader that has closed it, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
    return DONE
