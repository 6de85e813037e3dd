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
    if compiler is None:
        return None
    try:
        library = ctypes.CDLL(str(_build(compiler)))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: no home folder
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes = [_TYPES[letter] for letter in arguments]
        function.restype = ctypes.c_long if name in ("bit_positions", "select_kept") else None
    return library


def _build(compiler: str) -> Path:
    """Compile into the user's cache, under a name that depends on source, flags and processor; atomically."""
    texts = [path.read_text() for path in (*SOURCES, *FOLDER.glob("*.h"))]
    identity = "\0".join([*texts, *FLAGS, compiler, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamwprune"
    built = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "native.so"
            command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(fresh), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            fresh.replace(built)
    return built


def _processor() -> str:
    """Return what ``-march=native`` depends on, so that machines that share a home folder do not share the file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(named))) or platform.processor() or platform.machine()
