"""The rooms keep to their floors: see tests/helpers/floors.py."""

from __future__ import annotations

import shutil
from pathlib import Path

from lib.storage.project import ROOT
from tests.helpers.floors import breaches, module_name


def test_nothing_imports_what_it_may_not() -> None:
    assert sorted(breaches(ROOT)) == []


PLANTED = (  # file, what is written at its end, and what the sentence must say of it
    (
        "lib/pruning/criteria.py",
        "from ..optimizers import checks",
        "imports lib.optimizers.checks, which lies above it",
    ),
    ("lib/storage/files.py", "import lib.plots.style", "imports lib.plots.style, which lies above it"),
    ("lib/results/load.py", "import lenet5.train", "imports lenet5.train, which lies above it"),
    ("lenet5/model.py", "from scripts import results", "imports scripts.results, which lies above it"),
    (
        "lib/optimizers/lean.py",
        "def f():\n    from ..training import seeding",
        "imports lib.training.seeding, which lies above it (in a function)",
    ),
    (
        "lib/data/sources.py",
        "if TYPE_CHECKING:\n    from ..runner import resume",
        "imports lib.runner.resume, which lies above it (for types only)",
    ),
    ("lib/monitor/host.py", "from ..data import sources", "imports lib.data.sources, which lies beside it"),
    ("lib/kernels/cpu/build.py", "from ...storage import files", "imports lib.storage.files, which pip does not ship"),
    ("lib/__init__.py", "from .results import load", "imports lib.results.load, which pip does not ship"),
    ("lib/config/schema.py", "from . import matrix", "imports lib.config.matrix, which leads back to it"),
    (
        "lib/runner/resume.py",
        "def f():\n    import torch.nn",
        "imports torch.nn, which its room does without (in a function)",
    ),
    ("lib/data/sources.py", "from torch import nn", "imports torch, which its room does without"),
    ("lib/config/variants.py", "from ..optimizers import checks", "loads torch, by way of lib.optimizers.checks"),
    ("scripts/results.py", "import matplotlib.pyplot", "imports matplotlib.pyplot, which stands in lib.plots alone"),
    ("lib/results/records.py", "import kconfiglib", "imports kconfiglib, which stands in lib.config alone"),
    ("lib/training/build.py", "COMMAND = 'scripts/results.py'", "names a path of scripts/"),
    ("lib/other.py", "", "lies in no room"),
)


def test_a_planted_breach_of_each_kind_is_named(tmp_path: Path) -> None:
    for folder in ("lib", "scripts", "lenet5", "resnet18"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text, _ in PLANTED:
        with (tmp_path / file).open("a") as module:
            module.write(f"\n{text}\n")
    expected = {f"{module_name(Path(file))} {sentence}" for file, _, sentence in PLANTED}
    assert expected <= breaches(tmp_path)
