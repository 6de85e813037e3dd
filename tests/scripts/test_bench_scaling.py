"""The runs that `make bench` copies to see how tables and pictures grow are runs like any others."""

from __future__ import annotations

from pathlib import Path

import torch

from lib.config import kconfig
from lib.config.resolve import problems
from lib.config.run_config import RunConfig
from scripts.benchmarks import scaling


def test_every_copied_run_is_one_that_could_be_trained(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder = scaling.write_copies(run, tmp_path / "of-40", 40, torch.device("cpu"))
    symbols = kconfig.load()
    configs = [RunConfig.from_yaml(path.read_text()) for path in folder.glob("*/config.yaml")]
    assert len({(config.run_id, config.seed) for config in configs}) == 40
    assert [problem for config in configs for problem in problems(symbols, config)] == []
