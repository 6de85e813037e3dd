"""What plain `make` does: train the configured matrix, then print its table, draw its pictures, write its report.

    everything.py [--config FILE] [--continue | --rerun | --join] [NAME=value ...]

The arguments are those of run_matrix.py. Failed runs do not keep the others from being shown. Exit code: that of
run_matrix.py, or 1 where a table, picture or report could not be made.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config.matrix import load_matrix
from scripts import run_matrix

SHOWN_BY = (["results.py", "summary"], ["update_graphs.py", "--only-results"], ["report.py"])


def main(argv: list[str] | None = None) -> int:
    arguments = run_matrix.parse(argv)
    code = run_matrix.main(argv)
    if code > 1:
        return code
    signal.signal(signal.SIGTERM, _end)
    symbols, _ = load_matrix(ROOT, arguments.config, arguments.overrides)
    latest = ROOT / Path(symbols.text("RESULTS_DIR")).expanduser() / "latest"
    for script, *words in SHOWN_BY:
        command = [sys.executable, str(ROOT / "scripts" / script), *words, str(latest)]
        try:
            # in a session of its own it does not hear of Ctrl-C, which ends it from here without a traceback
            if subprocess.run(command, cwd=ROOT, start_new_session=True).returncode:
                code = 1
        except KeyboardInterrupt:
            return 130
    return code


def _end(number: int, frame: FrameType | None) -> None:
    """On SIGTERM, as on Ctrl-C, whatever is drawing is killed first."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
