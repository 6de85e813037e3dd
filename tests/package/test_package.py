"""What `pip install .` gives to somebody who has torch and numpy, and nothing of the harness."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lib.storage.project import ROOT

FOLDERS = ("kernels", "kernels/cpu", "memory", "optimizers", "pruning")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built in a copy of the tree by what is installed already."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("lib", "scripts", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, timeout=120)
    return copy / "dist"


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel, and sees torch and numpy with what they need alone."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    python = environment / "bin/python"
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    visible = environment / "visible"
    visible.mkdir()
    for entry in entries_of("torch", "numpy"):
        (visible / entry.name).symlink_to(entry)
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    (site_packages / "visible.pth").write_text(str(visible))
    return python


def entries_of(*names: str) -> set[Path]:
    """What these distributions, and all that they need, have in site-packages."""
    ahead, seen, entries = list(names), set(), set()
    while ahead:
        distribution = metadata.distribution(ahead.pop())
        if (name := distribution.metadata["Name"]) in seen:
            continue
        seen.add(name)
        entries |= {Path(distribution.locate_file(file.parts[0])) for file in distribution.files or ()}
        needs = [Requirement(text) for text in distribution.requires or ()]
        ahead += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {entry for entry in entries if entry.name not in ("..", "__pycache__")}


def run(python: Path, code: str, folder: Path) -> str:
    done = subprocess.run([python, "-I", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_and_sdist_hold_four_folders_of_the_library_and_nothing_else(built: Path) -> None:
    expected = {"adamwprune/__init__.py", "adamwprune/py.typed"} | {
        f"adamwprune/{folder}/{path.name}"
        for folder in FOLDERS
        for path in (ROOT / "lib" / folder).iterdir()
        if path.suffix in (".py", ".c", ".h")
    }
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    with tarfile.open(sdist) as archive:
        files = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    assert {name for name in files if "/" in name and ".egg-info/" not in name} == {
        name.replace("adamwprune/", "lib/", 1) for name in expected
    }


def test_it_needs_torch_and_numpy_alone(python: Path, tmp_path: Path) -> None:
    needs = run(python, "from importlib.metadata import requires; print(*requires('adamwprune'), sep='\\n')", tmp_path)
    assert {Requirement(line).name for line in needs.splitlines() if "extra ==" not in line} == {"torch", "numpy"}
    absent = ("matplotlib", "kconfiglib", "yaml", "psutil", "rich", "safetensors", "scipy", "torchvision", "lib")
    found = f"from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"
    assert run(python, found, tmp_path).strip() == "[]"


def test_every_module_of_it_can_be_imported(python: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, adamwprune
from adamwprune import (
    AdamWAdv, AdamWPrune, AdamWSpam, CubicSchedule, MagnitudePruner, MovementPruner, prunable_parameters, __version__
)
names = [module.name for module in pkgutil.walk_packages(adamwprune.__path__, "adamwprune.")]
for name in names:
    if name != "adamwprune.kernels.triton_step":  # Triton is there where torch brings it
        importlib.import_module(name)
print(adamwprune.memory.__name__, importlib.metadata.version("adamwprune") == __version__)
"""
    assert run(python, code, tmp_path).split() == ["adamwprune.memory", "True"]


def test_the_example_of_the_readme_runs(python: Path, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        run(python, example, tmp_path)


def test_mypy_in_strict_mode_knows_its_types(python: Path, tmp_path: Path) -> None:
    lines = [
        "import torch",
        "from adamwprune import AdamWPrune",
        "optimizer = AdamWPrune(torch.nn.Linear(2, 2).parameters(), sparsity=0.5, end_step=10)",
    ]
    (tmp_path / "right.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "wrong.py").write_text("\n".join(lines).replace("0.5", "'half'") + "\n")
    cache = ROOT / ".mypy_cache/package"  # most of the time goes into torch's types
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "--python-executable", python]
    done = subprocess.run([*command, "right.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    (line, _summary) = done.stdout.splitlines()
    assert line.startswith('wrong.py:3: error: Argument "sparsity" to "AdamWPrune" has incompatible type "str"')
