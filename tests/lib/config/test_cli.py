"""The options of train.py: what follows from them by default, and what is refused."""

from __future__ import annotations

import pytest

from lib.config.cli import parse
from lib.config.errors import ConfigError
from lib.config.run_config import RunConfig


def run(*options: str) -> RunConfig:
    return parse("lenet5", "", ["--optimizer", "adamwprune", *options])[0]


def test_dynamic_mode_exchanges_weights_unless_told_otherwise():
    assert run("--mode", "dynamic").regrowth == 0.3
    assert run("--mode", "dynamic", "--regrowth", "0").regrowth == 0.0
    assert run("--mode", "lean").regrowth == run().regrowth == 0.0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--mode", "lean", "--criterion", "movement"], "criterion=movement"),
        (["--mode", "fast"], "mode=fast"),
        (["--optimizer", "adamw", "--mode", "dynamic"], "mode=dynamic: does not apply"),
    ],
)
def test_a_mode_that_does_not_fit_is_refused_by_name(options: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        run(*options)
    assert len(error.value.problems) == 1
