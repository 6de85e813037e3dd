"""Fetch and verify the data of every run of the configured matrix; image folders are decoded and cached.

    data.py [--config FILE] [NAME=value ...]

Reads .config, or FILE: a fragment of Kconfig lines, or a matrix in YAML (*.yaml). NAME=value changes a symbol.
Prints one line for each data set. Exit code: 0, or 2 with one sentence for each problem on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.config import kconfig
from lib.config.command import DONE, REFUSED, run_command
from lib.config.matrix import load_matrix
from lib.config.run_config import RunConfig
from lib.data.errors import DataError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*", metavar="NAME=value")
    arguments = parser.parse_intermixed_args(argv)

    def command() -> int:
        _, runs = load_matrix(ROOT, arguments.config, dict(map(kconfig.parse_override, arguments.overrides)))
        usable = [fetch(config) for config in {(run.dataset, run.data_dir): run for run in runs}.values()]
        return DONE if all(usable) else REFUSED

    return run_command(command)


def fetch(config: RunConfig) -> bool:
    """Read the data set of a run, downloading what is missing, and say what it holds or what is wrong with it."""
    import torch  # only now: a wrong configuration is refused at once

    from lib.data.dataset import load

    try:
        print(load(config, torch.device("cpu")).note, flush=True)
    except DataError as error:
        print(error, file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
