"""The command that repeats a matrix, from what its folder says; nothing read there reaches a shell unquoted."""

from __future__ import annotations

import re
import shlex

from .records import Results

UNKNOWN = "not known"
_PRESET = re.compile(r"defconfig-[A-Za-z0-9][A-Za-z0-9._+-]*")
_FILE = re.compile(r"[A-Za-z0-9][\w .+-]*\.ya?ml")
_SYMBOL = re.compile(r"[A-Z][A-Z0-9_]*")
_FOLDER = re.compile(r"[A-Za-z0-9][\w.+-]*")


def recipe(results: Results, folder: str | None = None) -> str:
    """Return the shell command that trains the same matrix again, or UNKNOWN where the folder gives none that is safe.

    Args:
        results: the results; who chose their runs and the ``NAME=value`` of their start stand in matrix.yaml.
        folder: path of the results folder as the command is to name it. Default: ``results/<name>``.
    """
    chosen = results.chosen_by or ("menuconfig" if results.preset == "custom" else f"defconfig-{results.preset}")
    if chosen == "menuconfig":  # the folder's own copy of .config holds what was typed as well
        source = folder or f"results/{results.name}"
        return f"cp {shlex.quote(f'{source}/config')} .config && make" if _FOLDER.fullmatch(results.name) else UNKNOWN
    typed = [(name, str(value)) for name, value in results.overrides.items() if name != "RESULTS_DIR"]
    if not all(_SYMBOL.fullmatch(name) and value.isprintable() for name, value in typed):
        return UNKNOWN
    words = [f"{name}={shlex.quote(value)}" for name, value in typed]
    if _FILE.fullmatch(chosen):
        return " ".join(["python -m scripts.run_matrix --config", shlex.quote(chosen), *words])
    return " ".join([f"make {chosen} && make", *words]) if _PRESET.fullmatch(chosen) else UNKNOWN
