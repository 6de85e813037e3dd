"""The options of train.py: what follows from them by default, and what is refused."""

from __future__ import annotations

import pytest

from lib.config import cli, kconfig
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


def option_help(flag: str) -> str:
    """The help of one option of lenet5/train.py, in one line."""
    text = cli.parser(kconfig.load(), "lenet5", "").format_help()
    return " ".join(text.partition(f"  {flag} ")[2].partition("\n  --")[0].split())


def test_help_speaks_of_the_command_line_and_not_of_boxes():
    assert "box" not in cli.parser(kconfig.load(), "lenet5", "").format_help()
    assert "default 0.7 with a pruning method, else 0" in option_help("--target-sparsity")


def test_help_tells_the_optimizers_apart_where_they_differ():
    rate = option_help("--learning-rate")
    assert "default sgd: 0.05, adam, adamw, adamwadv, adamwspam, adamwprune: 0.002" in rate
    decay = option_help("--weight-decay")
    assert "sgd: L2 penalty added to the gradient." in decay and "adamw: Decoupled: each step shrinks" in decay


def test_help_says_once_what_holds_for_all_optimizers():
    assert option_help("--eps").count("Keeps steps finite") == 1
