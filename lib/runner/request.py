"""What a command line asks the runner for: the runs, and the file and the overrides that lead to them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import kconfig
from ..config.matrix import default_config, load_matrix
from ..config.run_config import RunConfig
from ..config.symbols import Symbols
from ..storage.project import ROOT
from ..storage.run_dir import ResultsDir
from .checks import Refused
from .resume import recorded_overrides, recorded_source, source_to_resume


@dataclass(frozen=True)
class Request:
    """The runs that a command line asks for, the file and the overrides they come from, and how to train them.

    Attributes:
        resume: only resume the newest results folder (--continue).
        rerun: start a new results folder whatever there is (--rerun).
        join: train what other runners of these runs have not begun (--join).
    """

    symbols: Symbols
    configs: list[RunConfig]
    source: Path
    overrides: dict[str, str]
    resume: bool = False
    rerun: bool = False
    join: bool = False

    @property
    def root(self) -> Path:
        """The folder that holds all results folders."""
        return results_root(self.symbols.text("RESULTS_DIR"))

    @property
    def jobs(self) -> int:
        """Runs at a time; 0: as many as the machine takes."""
        return int(self.symbols.text("JOBS"))

    @property
    def retries(self) -> int:
        """How often a run that was killed or ran out of memory is tried again."""
        return int(self.symbols.text("RETRIES"))

    @property
    def preset(self) -> str:
        return str(self.symbols.value("PRESET"))


def load_request(source: Path, overrides: dict[str, str]) -> Request:
    """Load a configuration. Raises ConfigError with every problem of it."""
    return Request(*load_matrix(ROOT, source, overrides), source, overrides)


def request_from_args(arguments: argparse.Namespace) -> Request:
    """Return what a command line of run_matrix asks for. Raises ConfigError, or Refused where nothing can be resumed.

    With --continue the overrides that the folder was started with still hold. Without a .config, the newest folder
    says what it was started from.
    """
    own = default_config(ROOT)
    source, given = arguments.config or own, dict(map(kconfig.parse_override, arguments.overrides))
    if not arguments.resume:
        return replace(load_request(source, given), rerun=arguments.rerun, join=arguments.join)
    if arguments.config or own.name == ".config":
        request = load_request(source, given)
        folder, root, of_preset = ResultsDir.newest(request.root, request.preset), request.root, f" of {request.preset}"
        latest = ResultsDir.newest(root)
        if folder is None and latest is not None and recorded_source(latest) == source.absolute():
            folder = latest  # under another name: PRESET was given for that start alone
    else:
        root, of_preset = results_root(given.get("RESULTS_DIR", "results")), ""
        folder = ResultsDir.newest(root)
        if folder is not None:
            source = source_to_resume(folder)
    if folder is None:
        raise Refused(f"no results{of_preset} in {root} to go on with: `make` starts a matrix")
    request = load_request(source, {**recorded_overrides(folder), **given})
    if request.root.resolve() != root.resolve():  # what a folder that was moved, or received, says of where it lay
        request = load_request(source, {**request.overrides, "RESULTS_DIR": str(root)})
    return replace(request, resume=True)


def results_root(text: str) -> Path:
    """Return the folder that RESULTS_DIR names. Raises Refused where it names a user who does not exist."""
    try:
        return ROOT / Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"RESULTS_DIR={text}: the user {text.partition('/')[0][1:]!r} is unknown") from None
