"""Edit, fill and list configurations: what `make menuconfig`, `make defconfig-<name>` and `make dry-run` call.

    kconfig.py menuconfig                 edit .config in the terminal
    kconfig.py defconfig NAME             write .config from defconfigs/NAME
    kconfig.py list-defconfigs            every preset: number of runs and the question it answers
    kconfig.py olddefconfig               bring an older .config up to date; lists what is new and what was dropped
    kconfig.py savedefconfig              write ./defconfig: only what differs from the defaults
    kconfig.py dry-run [--config FILE]    the runs of the matrix, one a line, and their number
    kconfig.py names                      check NAME=value for commands that show results: RESULTS_DIR alone
    kconfig.py value SYMBOL               the value of one symbol

All take NAME=value as well: overrides as on the command line of make. Exit codes: 0, or 2 with one sentence a
problem on stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import os
import select
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lib.config import kconfig, matrix
from lib.config.assignment import override, unknown_names
from lib.config.command import run_command
from lib.config.errors import ConfigError
from lib.config.schema import nearest
from lib.storage.files import write_atomic
from lib.storage.project import ROOT

CONFIG = ROOT / ".config"
PRESETS = ROOT / kconfig.PRESETS


@dataclass(frozen=True)
class Request:
    """Hold the command line: overrides by name, the name for defconfig and value, the file of --config."""

    overrides: dict[str, str]
    name: str = ""
    config: Path | None = None


def menuconfig(request: Request) -> None:
    """Edit what `make` would run, and write .config when the user says so. Needs a terminal."""
    if reason := no_terminal():
        raise ConfigError(
            [f"menuconfig needs a terminal ({reason}); `make defconfig-<name>` writes .config without one"]
        )
    symbols = kconfig.load(ROOT, matrix.default_config(ROOT), request.overrides)
    threading.Thread(target=end_with_terminal, daemon=True).start()
    kconfig.menu(symbols, CONFIG)
    if CONFIG.exists():
        kconfig.load(ROOT, CONFIG)  # the menu takes any text where a number belongs


def end_with_terminal() -> None:
    """Wait until the terminal is gone, and end. The menus would ask a closed window for keys for ever."""
    terminal = select.poll()
    terminal.register(sys.stdin, 0)  # a hang-up is told without being request for
    for _, event in terminal.poll():
        if event & select.POLLHUP:
            os.kill(os.getpid(), signal.SIGHUP)


def no_terminal() -> str | None:
    """Return why menus cannot be drawn here, or None where they can."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "stdin or stdout is none"
    term = os.environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        return f"TERM is {term or 'not set'}"
    import curses

    try:
        curses.setupterm()
    except curses.error:
        return f"TERM={term} is unknown here"
    return None


def defconfig(request: Request) -> None:
    """Write .config from a preset; a .config with other content is kept as .config.old."""
    known = [path.name for path in presets()]
    if request.name not in known:
        near = nearest(request.name, known)
        raise ConfigError([f"defconfig-{request.name}: no such preset{near}; `make list-defconfigs` lists them"])
    symbols = kconfig.load(ROOT, PRESETS / request.name, request.overrides)
    runs = matrix.expand(symbols)
    kept = "; the former one is kept as .config.old" if ".old" in kconfig.save(symbols, CONFIG, keep_old=True) else ""
    it = "it" if len(runs) == 1 else "them"
    print(f".config written from defconfigs/{request.name}: {count(runs)}{kept}; `make` starts {it}")


def list_defconfigs(request: Request) -> None:
    """Print name, number of runs and first line of every preset."""
    problems: list[str] = []
    rows = []
    for path in presets():
        question = path.read_text(encoding="utf-8-sig").partition("\n")[0].lstrip("# ").strip()
        try:
            rows.append((path.name, len(matrix.load_matrix(ROOT, path, request.overrides)[1]), question))
        except ConfigError as error:
            problems += error.problems
    width = max((len(row[0]) for row in rows), default=0)
    for preset, runs, question in rows:
        print(f"{preset:{width}}  {runs:4d} run{'s' if runs != 1 else ' '}  {question}")
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def olddefconfig(request: Request) -> None:
    """Rewrite .config, and list what is new in it and what was dropped."""
    if not CONFIG.exists():
        raise ConfigError([".config: there is none yet; `make menuconfig` or `make defconfig-<name>` writes one"])
    symbols, dropped, new = kconfig.load_old(ROOT, CONFIG)
    if problems := override(symbols, request.overrides):
        raise ConfigError(problems)
    for line in dropped:
        print(f"dropped {line}")
    for symbol in new:
        print(f"new {symbol}={symbols.text(symbol)}")
    print(kconfig.save(symbols, CONFIG, keep_old=True))


def savedefconfig(request: Request) -> None:
    """Write ./defconfig. The name of a preset that the configuration has departed from is left out."""
    symbols, runs = matrix.load_matrix(ROOT, request.config, request.overrides)
    name = symbols.text("PRESET")
    if (PRESETS / name).is_file() and kconfig.preset_of(symbols, ROOT) is None and "PRESET" not in request.overrides:
        symbols.assign("PRESET", kconfig.defaults(ROOT).text("PRESET"))
        print(f"PRESET={name} is left out: this is no longer that preset; PRESET=<name> gives it a name of its own")
    question = "Which question does this preset answer? (this line is shown by `make list-defconfigs`)"
    write_atomic(ROOT / "defconfig", kconfig.minimal(symbols, question))
    print(f"defconfig written ({count(runs)}); move it to defconfigs/<name> to keep it as a preset")


def dry_run(request: Request) -> None:
    """Print the names of the runs, and how many there are."""
    runs = matrix.load_matrix(ROOT, request.config, request.overrides)[1]
    print("\n".join([*(run.run_id for run in runs), count(runs)]))


def names(request: Request) -> None:
    """Check the overrides of a command that shows results as they are: RESULTS_DIR is all that it reads."""
    problems = unknown_names(kconfig.defaults(ROOT), request.overrides)
    problems += [
        f"command line: {name}: no effect on results that are there; only RESULTS_DIR has one"
        for name in request.overrides
        if name != "RESULTS_DIR" and not problems
    ]
    if problems:
        raise ConfigError(problems)


def value(request: Request) -> None:
    """Print the value of one symbol."""
    symbols, _ = matrix.load_matrix(ROOT, request.config, request.overrides)
    if request.name not in symbols:
        raise ConfigError([f"{request.name}: no such symbol{nearest(request.name, symbols)}"])
    print(symbols.text(request.name))


def presets() -> list[Path]:
    """Return the files of the presets in the order of their names, without what editors leave behind."""
    return sorted(path for path in PRESETS.iterdir() if path.is_file() and not path.name.endswith("~"))


def count(runs: list) -> str:
    """Return `1 run` or `39 runs`."""
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}"


COMMANDS: dict[str, Callable[[Request], None]] = {
    "menuconfig": menuconfig,
    "defconfig": defconfig,
    "list-defconfigs": list_defconfigs,
    "olddefconfig": olddefconfig,
    "savedefconfig": savedefconfig,
    "dry-run": dry_run,
    "names": names,
    "value": value,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--config", type=Path, help="a .config, defconfig or matrix in YAML instead of .config")
    parser.add_argument(
        "words", nargs="*", metavar="NAME=value", help="overrides; for defconfig and value a name first"
    )
    options = parser.parse_intermixed_args(argv)
    words, name = options.words, ""
    if options.command in ("defconfig", "value"):
        if not words or "=" in words[0]:
            parser.error(f"{options.command}: of what? expected a name")
        name = words.pop(0)

    def command() -> int:
        overrides = dict(map(kconfig.parse_override, words))
        COMMANDS[options.command](Request(overrides, name, options.config))
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
