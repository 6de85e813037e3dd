"""Load files of Kconfig symbols with overrides, save them, edit them in the terminal. No import of torch."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import kconfiglib

from ..storage.files import write_atomic
from ..storage.project import ROOT
from .assignment import apply, override
from .errors import ConfigError
from .fragment import Assignment, parse
from .symbols import Symbols

PRESETS = "defconfigs"  # folder of the presets, below the root


def load(root: Path = ROOT, config_file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Symbols:
    """Return the symbols of the tree at `root` with the values of `config_file` (None: the defaults) and overrides.

    Raises ConfigError with every problem of the file (`file:line: SYMBOL=value: reason`) and of the overrides.
    """
    symbols = defaults(root)
    problems: list[str] = []
    if config_file is not None:
        where = _shown(config_file, root)
        assignments, broken = _read(config_file, where)
        if config_file.parent == root / PRESETS and not any(a.name == "PRESET" for a in assignments):
            symbols.assign("PRESET", config_file.name)  # a preset that does not say otherwise
        refused = [(a.line, f"{a.text}: {why}") for a, why in apply(symbols, assignments)]
        problems = [f"{where}:{line}: {what}" for line, what in sorted(broken + refused)]
    problems += override(symbols, overrides or {})
    if problems:
        raise ConfigError(problems)
    return symbols


def load_old(root: Path, config_file: Path) -> tuple[Symbols, list[str], list[str]]:
    """What this version can use of an older .config: the symbols, the lines dropped, the symbols that are new.

    Lines that are no assignments and symbols assigned twice are no question of age: ConfigError.
    """
    where = _shown(config_file, root)
    assignments, broken = _read(config_file, where)
    if broken:
        raise ConfigError(f"{where}:{line}: {what}" for line, what in broken)
    known = {assignment.name for assignment in assignments}
    dropped: list[tuple[int, str]] = []
    while True:
        symbols = defaults(root)
        refused = apply(symbols, assignments)
        if not refused:
            break
        dropped += [(a.line, f"{a.text}: {why}") for a, why in refused]
        lines = {a.line for a, _ in refused}
        assignments = [a for a in assignments if a.line not in lines]
    new = [name for name in symbols if name not in known and symbols.has_prompt(name) and symbols.is_saved(name)]
    return symbols, [f"{where}:{line}: {what}" for line, what in sorted(dropped)], new


def defaults(root: Path = ROOT) -> Symbols:
    """Return the symbols as the menus define them, everything at its default."""
    if not (root / "Kconfig").is_file():
        raise ConfigError([f"{root / 'Kconfig'}: no such file"])
    # kconfiglib takes the folder as a pattern of glob
    with clean_environment(srctree=glob.escape(str(root))):
        return Symbols(_Kconfig(str(root / "Kconfig"), warn=False))


def preset_of(symbols: Symbols, root: Path = ROOT) -> str | None:
    """Return the name of the preset whose values all symbols have, or None."""
    name = symbols.text("PRESET")
    path = root / PRESETS / name
    if not path.is_file():
        return None
    preset = load(root, path)
    return name if all(preset.text(symbol) == symbols.text(symbol) for symbol in symbols) else None


def parse_override(word: str) -> tuple[str, str]:
    """Split `NAME=value` of a command line into name and value."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ConfigError([f"command line: {word}: expected NAME=value"])
    return name, value


def save(symbols: Symbols, path: Path, keep_old: bool = False) -> str:
    """Write every symbol to `path`, whole or not at all (a link stays a link). Return a sentence on what was done.

    With `keep_old`, a file with other content is kept as `<path>.old`.
    """
    return symbols.kconfig.write_config(str(path), save_old=keep_old)


def minimal(symbols: Symbols, header: str) -> str:
    """Return the fragment that leads to these values: what differs from the defaults, below the line `header`."""
    with tempfile.TemporaryDirectory() as folder:
        symbols.kconfig.write_min_config(str(Path(folder, "minimal")), header=f"# {header}\n")
        return Path(folder, "minimal").read_text(encoding="utf-8")


def menu(symbols: Symbols, path: Path) -> None:
    """Let the user edit the symbols in the terminal and save them to `path`."""
    import menuconfig  # type: ignore[import-untyped]  # comes with kconfiglib; needs curses

    with contextlib.chdir(path.parent), clean_environment(KCONFIG_CONFIG=path.name):
        menuconfig.menuconfig(symbols.kconfig)


@contextlib.contextmanager
def clean_environment(**values: str) -> Iterator[None]:
    """Hide the variables that change what kconfiglib reads and writes, and set `values`, until the block ends."""
    stray = [name for name in os.environ if name.startswith("KCONFIG_") or name in ("srctree", "CONFIG_")]
    before = {name: os.environ.pop(name) for name in stray}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


class _Kconfig(kconfiglib.Kconfig):
    """Write whole files, also what menuconfig saves, and keep menuconfig from loading a second time and leniently."""

    def load_config(self, filename=None, replace=True, verbose=None):  # type: ignore[no-untyped-def]
        return "" if filename is None else super().load_config(filename, replace)

    def write_config(self, filename=None, header=None, save_old=True, verbose=None):  # type: ignore[no-untyped-def]
        with tempfile.TemporaryDirectory() as folder:
            scratch = str(Path(folder, "config"))
            super().write_config(scratch, header="# All symbols; `make menuconfig` edits them.\n", save_old=False)
            content = Path(scratch).read_bytes()
        path = Path(filename).resolve()
        before = path.read_bytes() if path.is_file() else None
        if before == content:
            return f"No change to {filename}"
        if save_old and before is not None:
            write_atomic(Path(f"{filename}.old"), before, follow=True)
        write_atomic(path, content, follow=True)
        kept = f"; the former one is kept as {filename}.old" if save_old and before is not None else ""
        return f"Configuration saved to {filename}{kept}"


def _read(path: Path, where: str) -> tuple[list[Assignment], list[tuple[int, str]]]:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError([f"{where}: {error.strerror}"]) from None


def _shown(path: Path, root: Path) -> str:
    """Return the path as a reader would type it from the root."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
