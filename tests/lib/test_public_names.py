"""What `import adamwprune` gives; in the repository the package is called lib."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lib
from lib.storage.project import ROOT


@pytest.mark.parametrize("name", lib.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lib, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="AdamWPlum"):
        _ = lib.AdamWPlum


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, lib; assert lib.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
