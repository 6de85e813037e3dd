"""docs/extending.md is true: what it says is done in a copy of the tree, which then trains what was added."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.storage.project import ROOT
from tests.helpers.floors import breaches

PAGE = ROOT / "docs/extending.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"`((?:[\w.]+/)*(?:Kconfig|[\w]+\.\w+))`")
TREE = ("Kconfig", "Makefile", "requirements.txt", "defconfigs", "lib", "lenet5", "resnet18", "scripts")


def copy_tree(folder: Path) -> None:
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)


def follow(page: str, root: Path) -> None:
    """Do what a page says: a block is the file that the line above it names, a diff of that file, or typed (`sh`)."""
    file = Path()
    for block in BLOCK.finditer(page):
        language, text = block.groups()
        above = page[: block.start()].rstrip().rsplit("\n\n", 1)[-1]
        if named := FILE.findall(above):
            file = root / named[-1]
        if language == "sh":
            subprocess.run(["sh", "-e", "-c", text], cwd=root, check=True, timeout=60)
        elif language == "diff":
            add_lines(file, text)
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)


def add_lines(file: Path, diff: str) -> None:
    """Add the lines marked with + below the one above them."""
    (context, *added) = diff.rstrip("\n").split("\n")
    line = f"\n{context[1:]}\n"
    text = file.read_text()
    assert text.count(line) == 1, f"{file} has {context[1:]!r} {text.count(line)} times"
    file.write_text(text.replace(line, line + "".join(f"{new[1:]}\n" for new in added)))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    copy_tree(root)
    lesson, _, _ = PAGE.read_text().partition("\n## Try it\n")
    follow(lesson, root)
    return root


def run(root: Path, command: str) -> str:
    """The output of a command that is typed in the root of a tree, with the Python that runs the tests."""
    bin = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin}:{os.environ['PATH']}", "PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", "-e", "-c", command], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_kconfig_files_and_one_registry_change(extended: Path) -> None:
    changed = {
        str(path.relative_to(ROOT))
        for name in TREE
        for path in [ROOT / name, *(ROOT / name).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
        if path.read_bytes() != (extended / path.relative_to(ROOT)).read_bytes()
    }
    assert changed == {"Kconfig", "lib/optimizers/Kconfig", "lib/pruning/Kconfig", "lib/training/build.py"}


def test_what_was_added_keeps_to_the_floors(extended: Path) -> None:
    assert sorted(breaches(extended)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        "mlp.train --optimizer adamwprune --pruning-method state --hidden 16",
        "lenet5.train --optimizer lion",
        "lenet5.train --optimizer adamw --pruning-method random --target-sparsity 0.5",
    ],
)
def test_each_addition_trains(extended: Path, arguments: str, tmp_path: Path) -> None:
    run(
        extended,
        f"python -m {arguments} --dataset synthetic --epochs 1 --train-images 64 --output {tmp_path}",
    )
    assert (tmp_path / "summary.json").exists()


def test_the_commands_to_try_work(extended: Path) -> None:
    _, _, trial = PAGE.read_text().partition("\n## Try it\n")
    (commands,) = (text for language, text in BLOCK.findall(trial) if language == "sh")
    output = run(extended, commands.replace("make check\n", ""))
    assert "mlp_lion_random_70\n" in output
