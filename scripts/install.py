"""See that the packages are there: the first make does this, once. Needs nothing but Python 3.11 and its library.

    install.py FOLDER REQUIREMENTS STAMP      make the environment FOLDER, install REQUIREMENTS, then touch STAMP
    install.py --check REQUIREMENTS           install nothing; is everything here for the Python that runs this?

Two makes at once: the second waits for the first. Exit codes: 0, or 2 with one sentence on stderr.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def wanted(requirements: Path) -> list[str]:
    """Names of the packages in a requirements file and in those that it includes by `-r`."""
    names = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if included := re.match(r"-r\s+(\S+)", line):
            names += wanted(requirements.parent / included[1])
        elif name := re.match(r"[A-Za-z0-9._-]+", line):
            names.append(name[0])
    return names


def missing(requirements: Path) -> list[str]:
    """The packages that this Python does not have."""
    found = []
    for name in wanted(requirements):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found.append(name)
    return found


def check(requirements: Path) -> int:
    """A foreign environment is only looked at."""
    if not (absent := missing(requirements)):
        return 0
    python = shlex.quote(sys.executable)
    print(
        f"{sys.executable} lacks {', '.join(absent)}: install them with `{python} -m pip install -r {requirements}`, "
        "or leave that environment and `make` sets up its own in .venv",
        file=sys.stderr,
    )
    return 2


def install(folder: Path, requirements: Path, stamp: Path) -> int:
    """Make the environment and fill it, unless another make has done so meanwhile."""
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.stat().st_mtime >= requirements.stat().st_mtime:
            return 0
        print(f"setting up {folder} with {requirements} (once; some minutes)", file=sys.stderr)
        python = folder / "bin" / "python"
        there = python.exists() and succeeds(python, "-m", "pip", "--version")
        if not there and not succeeds(sys.executable, "-m", "venv", folder, show=True):
            return failed(f"{sys.executable} cannot make {folder}; on Debian and Ubuntu install python3-venv")
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        if not succeeds(*pip, "-r", requirements, show=True):
            return failed(f"the packages of {requirements} could not be installed; run make again when that is mended")
        stamp.touch()
    return 0


def succeeds(*command: str | Path, show: bool = False) -> bool:
    """Run a command; all of its output goes to stderr, or nowhere. stdout belongs to what the user asked for."""
    output = sys.stderr if show else subprocess.DEVNULL
    return subprocess.run([str(word) for word in command], stdout=output, stderr=output).returncode == 0


def failed(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def main() -> int:
    words = sys.argv[1:]
    try:
        if len(words) == 2 and words[0] == "--check":
            return check(Path(words[1]))
        if len(words) == 3:
            return install(*map(Path, words))
    except OSError as error:
        return failed(f"{error.filename}: {error.strerror}")
    return failed(str(__doc__))


if __name__ == "__main__":
    sys.exit(main())
