"""See that the packages are there: the first make does this, once. Needs nothing but Python 3.11 and its library.

    install.py FOLDER REQUIREMENTS STAMP      make the environment FOLDER, install REQUIREMENTS, then touch STAMP
    install.py --check REQUIREMENTS           install nothing; is everything here for the Python that runs this?
    install.py --renew REQUIREMENTS           write requirements.lock beside it: the newest releases, with their hashes

A new environment gets the releases that requirements.lock pins, and nothing whose hash is another, where the lock was
made for: Linux, Python 3.11 to 3.14. --lock n goes without. --torch cpu asks for a torch that is built for CPUs alone,
which the lock does not have. Two makes at once: the second waits for the first. Exit codes: 0, or 2 with one sentence
on stderr.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.monitor import amd, drm, nvidia
from lib.runner.environment import torch_build

LOCK = "requirements.lock"

#: Where torch's makers keep the builds for CPUs alone.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

#: Disk space, GB, measured on Linux with torch 2.14: all packages, and all but the libraries of CUDA.
SIZE, SIZE_WITHOUT_CUDA = 6, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="REQUIREMENTS")
    parser.add_argument("--renew", type=Path, metavar="REQUIREMENTS")
    parser.add_argument("--torch", metavar="cpu")
    parser.add_argument("--lock", default="y", metavar="n")
    parser.add_argument("paths", type=Path, nargs="*", metavar="FOLDER REQUIREMENTS STAMP")
    args = parser.parse_args(argv)
    if args.torch not in (None, "cpu"):
        return failed(f"TORCH={args.torch}: cpu is expected, or nothing")
    if args.lock not in ("y", "n"):
        return failed(f"LOCK={args.lock}: y or n is expected")
    try:
        if args.check and not args.paths:
            return check(args.check, args.torch)
        if args.renew and not args.paths:
            return renew(args.renew)
        if len(args.paths) == 3:
            folder, requirements, stamp = args.paths
            return install(folder, requirements, stamp, args.torch, locked=args.lock == "y")
    except OSError as error:
        return failed(f"{error.filename}: {error.strerror}")
    return failed(str(__doc__))


def wanted(requirements: Path) -> dict[str, str]:
    """Return the lines of a requirements file, and of those that it includes by `-r`, by the name of the package."""
    lines: dict[str, str] = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if included := re.match(r"-r\s+(\S+)", line):
            lines |= wanted(requirements.parent / included[1])
        elif name := re.match(r"[A-Za-z0-9._-]+", line):
            lines[name[0]] = line.partition(" #")[0].strip()
    return lines


def missing(requirements: Path) -> list[str]:
    """Return the packages that this Python does not have."""
    found = []
    for name in wanted(requirements):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found.append(name)
    return found


def check(requirements: Path, torch: str | None) -> int:
    """Look at an environment that is there, and change nothing in it."""
    python = shlex.quote(sys.executable)
    if absent := missing(requirements):
        return failed(
            f"{sys.executable} lacks {', '.join(absent)}: install them with "
            f"`{python} -m pip install -r {requirements}`, "
            "or leave that environment and `make` sets up its own in .venv"
        )
    build = torch_build()
    if torch == "cpu" and build.keys() & {"cuda", "hip"}:
        return failed(
            f"TORCH=cpu: {sys.executable} has torch {build.get('__version__')}, which is not for CPUs alone, and it "
            "stays; `make mrproper` removes .venv, and `make TORCH=cpu` makes it anew"
        )
    return 0


def install(folder: Path, requirements: Path, stamp: Path, torch: str | None, locked: bool) -> int:
    """Make the environment and fill it, unless another make has done so meanwhile."""
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.stat().st_mtime >= requirements.stat().st_mtime:
            return 0
        new = not list(folder.glob(".packages*"))
        announce(folder, requirements, torch)
        python = folder / "bin" / "python"
        there = python.exists() and succeeds(python, "-m", "pip", "--version")
        if not there and not succeeds(sys.executable, "-m", "venv", folder, show=True):
            return failed(f"{sys.executable} cannot make {folder}; on Debian and Ubuntu install python3-venv")
        pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check")
        if torch == "cpu" and (sentence := install_cpu_torch(pip, requirements)):
            return failed(sentence)
        lock = requirements.with_name(LOCK)
        pinned = locked and new and torch is None and lock.exists() and lock_fits()
        if pinned and not succeeds(*pip, "--require-hashes", "-r", lock, show=True):
            return failed(
                f"what {lock} pins could not be installed; run make again when that is mended, "
                f"or `make LOCK=n` takes what {requirements} allows"
            )
        if not succeeds(*pip, "-r", requirements, show=True):
            return failed(f"the packages of {requirements} could not be installed; run make again when that is mended")
        stamp.touch()
    return 0


def announce(folder: Path, requirements: Path, torch: str | None) -> None:
    """Say what is about to be installed, how much it is, and what would be less."""
    if list(folder.glob(".packages*")):
        print(f"adding {requirements} to {folder}", file=sys.stderr, flush=True)
        return
    size = SIZE_WITHOUT_CUDA if torch == "cpu" else SIZE
    lines = [f"setting up {folder} with {requirements}, once: about {size} GB on disk, and some minutes"]
    if torch is None and sys.platform == "linux" and not has_gpu():
        lines.append(
            "no NVIDIA or AMD GPU is to be seen here: Ctrl-C and `make TORCH=cpu` installs torch without the libraries "
            f"of CUDA, less than {SIZE_WITHOUT_CUDA} GB in all"
        )
    free = shutil.disk_usage(folder).free / 1e9
    if free < size:
        lines.append(f"only {free:.1f} GB are free where {folder} lies")
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def has_gpu(root: Path = Path("/")) -> bool:
    """Return whether there is a GPU that torch could use, as far as the kernel's files tell."""
    return nvidia.has_device(root) or bool(drm.cards(root, amd.VENDOR))


def lock_fits() -> bool:
    """Return whether the releases that are pinned were made for this system: they have files for no other."""
    return sys.platform == "linux" and (3, 11) <= sys.version_info[:2] < (3, 15)


def renew(requirements: Path) -> int:
    """Pin the newest releases that fit `requirements`, with the hashes of all of their files, by a uv of its own."""
    lock = requirements.with_name(LOCK)
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
        if not succeeds(*pip, "--target", folder, "uv", show=True):
            return failed("uv, which makes the lock, could not be installed")
        command = [f"{folder}/bin/uv", "pip", "compile", "--universal", "--python-version", "3.11", "--upgrade"]
        command += ["--generate-hashes", "--no-annotate", "--quiet", "--custom-compile-command", "make lock"]
        if not succeeds(*command, "--output-file", lock, requirements, show=True):
            return failed(f"{lock} could not be made")
    return 0


def install_cpu_torch(pip: Sequence[str], requirements: Path) -> str | None:
    """Install torch and torchvision for CPUs alone; return a sentence where they cannot be had, and install nothing."""
    lines = [line for name, line in wanted(requirements).items() if name in ("torch", "torchvision")]
    command = [*pip, "--index-url", CPU_INDEX, *lines]
    resolved = [*command, "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"]
    answer = subprocess.run(resolved, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        chosen = [entry["metadata"]["version"] for entry in json.loads(answer.stdout)["install"]]
    except (ValueError, KeyError, TypeError):
        chosen = []
    if not chosen or (sys.platform == "linux" and not all(version.endswith("+cpu") for version in chosen)):
        return (
            f"TORCH=cpu: neither {CPU_INDEX} nor your own index has {' and '.join(lines)} for CPUs alone; "
            f"`make` without it installs the usual ones, about {SIZE} GB"
        )
    if not succeeds(*command, show=True):
        return f"torch for CPUs could not be installed from {CPU_INDEX}; run make again when that is mended"
    return None


def succeeds(*command: str | Path, show: bool = False) -> bool:
    """Run a command; all of its output goes to stderr, or nowhere. stdout belongs to what the user asked for."""
    output = sys.stderr if show else subprocess.DEVNULL
    return subprocess.run([str(word) for word in command], stdout=output, stderr=output).returncode == 0


def failed(sentence: str) -> int:
    """Say a sentence and return the exit code of a failure."""
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
