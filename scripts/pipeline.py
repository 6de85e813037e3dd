"""What plain `make` does: train the configured matrix, then print its table, draw its pictures, write its report.

    pipeline.py [--config FILE] [--continue | --rerun | --join] [NAME=value ...]

The arguments are those of run_matrix.py. Failed runs do not keep the others from being shown. Exit code: that of
run_matrix.py, or 1 where a table, picture or report could not be made.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.command import run_command
from lib.runner.request import request_from_args
from lib.runner.runner import display_path, train
from lib.training.stop import StopSignals
from scripts import run_matrix

SHOWN_BY = (["results.py", "summary"], ["update_graphs.py", "--only-results"], ["report.py"])


def main(argv: Sequence[str] | None = None) -> int:
    arguments = run_matrix.parse(argv)

    def command() -> int:
        folder, code = train(request_from_args(arguments))
        return code if code > 1 else show(display_path(folder.path)) or code

    return run_command(command)


def show(folder: Path) -> int:
    """Table, pictures and report of a results folder. 0, 1 where one could not be made, 130 or 143 if interrupted."""
    code = 0
    with StopSignals() as stop:
        for script, *words in SHOWN_BY:
            # in a session of its own it does not hear of Ctrl-C, which ends it from here without a traceback
            command = [sys.executable, str(ROOT / "scripts" / script), *words, str(folder)]
            child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
            stop.on_request = lambda number, child=child: child.kill()
            if stop.count:  # before there was something to kill
                child.kill()
            if child.wait():
                code = 1
            if stop.count:
                return stop.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
