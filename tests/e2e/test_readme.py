"""What the README tells a newcomer to type."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from lib.storage.project import ROOT

README = (ROOT / "README.md").read_text()


def test_the_loop_of_somebody_else_works_as_printed() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    as_installed = "import sys, lib\nsys.modules['adamwprune'] = lib\n"  # under the name that it is installed as
    done = subprocess.run(
        [sys.executable, "-c", as_installed + code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    sparsity, *_ = done.stdout.split()
    assert float(sparsity) == pytest.approx(round(0.7 * 1408) / 1408)


def test_every_make_target_that_it_names_exists() -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", README, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    presets = {f"defconfig-{path.name}" for path in (ROOT / "defconfigs").iterdir()}
    assert named and named <= targets | presets
