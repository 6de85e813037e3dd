"""Build the compiled loops on demand from the C files of this folder, once for each machine and source."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .library_cache import is_intact, private_folder, store

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.c"))
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")

# p: pointer, l: long, i: int, f: float
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "i": ctypes.c_int, "f": ctypes.c_float}
_ARGUMENTS = {
    "adamw_compact": "pl",
    "lean_step": "pl",
    "bit_positions": "plp",
    "fisher": "ppplfip",
    "fisher_lean": "pppplllfip",
    "histogram": "plip",
    "select_kept": "plilp",
    "gather_kept": "pplpp",
    "gather_or_init": "pppplllp",
    "repack_mask": "ppllp",
}


@cache
def load() -> ctypes.CDLL | None:
    """Return the compiled functions, or None if they cannot be built or loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not hasattr(os, "getuid"):
        return None
    try:
        library = _load_cached(compiler)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        library = _load_private(compiler)
    if library is not None:
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes = [_TYPES[letter] for letter in arguments]
            function.restype = ctypes.c_long if name in ("bit_positions", "select_kept") else None
    return library


def _load_cached(compiler: str) -> ctypes.CDLL | None:
    """Load the library from the user's cache, built if it is not there or not intact. Raises OSError, RuntimeError."""
    texts = [path.read_text() for path in (*SOURCES, *FOLDER.glob("*.h"))]
    identity = "\0".join([*texts, *FLAGS, compiler, _processor()])
    folder = private_folder()
    library = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not is_intact(library):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / "native.so"
            if not _compile(compiler, built):
                return None
            store(built, library)
    return ctypes.CDLL(str(library))


def _load_private(compiler: str) -> ctypes.CDLL | None:
    """Build the library for this process alone, where there is no cache that can be trusted."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            built = Path(scratch) / "native.so"
            return ctypes.CDLL(str(built)) if _compile(compiler, built) else None
    except OSError:
        return None


def _compile(compiler: str, output: Path) -> bool:
    """Compile the C files; return whether that succeeded."""
    command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(output), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except subprocess.SubprocessError:
        return False
    return True


def _processor() -> str:
    """Return what ``-march=native`` depends on, so that machines that share a home folder do not share the file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(named))) or platform.processor() or platform.machine()
