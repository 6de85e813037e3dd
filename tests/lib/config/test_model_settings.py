"""A model's own settings come from its Kconfig alone: no file of lib/ names them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lib.config import cli, kconfig, matrix, variants
from lib.config.errors import ConfigError
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.config.symbols import Symbols
from lib.storage.project import ROOT

OWN = """
config TOYNET_DROPOUT
    string "Dropout"
    default "0.5"
    help
        Range: 0 to below 1.

choice
    prompt "Activation"
    default TOYNET_ACTIVATION_RELU

config TOYNET_ACTIVATION_RELU
    bool "relu"

config TOYNET_ACTIVATION_GELU
    bool "gelu"

endchoice

config TOYNET_ACTIVATION
    string
    default "gelu" if TOYNET_ACTIVATION_GELU
    default "relu"

endmenu
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The menus with a third model: LeNet-5's under another name, and two settings of its own."""
    root = tmp_path_factory.mktemp("tree")
    for path in ROOT.rglob("Kconfig"):
        if path.relative_to(ROOT).parts[0] not in (".venv", "results", "data"):
            (root / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.relative_to(ROOT))
    (root / "toynet").mkdir()
    text = (ROOT / "lenet5/Kconfig").read_text().replace("LENET5", "TOYNET").replace("LeNet-5", "Toy net")
    (root / "toynet/Kconfig").write_text(text.rstrip().removesuffix("endmenu") + OWN)
    menu = root / "Kconfig"
    menu.write_text(
        menu.read_text().replace('source "lenet5/Kconfig"\n', 'source "lenet5/Kconfig"\nsource "toynet/Kconfig"\n')
    )
    return root


def load(tree: Path, **overrides: str) -> Symbols:
    return kconfig.load(tree, None, {"MODEL": "toynet"} | overrides)


def test_a_new_model_has_its_own_settings_and_the_others_do_not(tree: Path) -> None:
    symbols = load(tree)
    assert symbols.own_settings("toynet") == ["dropout", "activation"]
    assert symbols.own_settings("lenet5") == []
    assert symbols.own_settings("resnet18") == ["width"]


def test_overrides_reach_the_run_by_the_full_name_and_by_the_short_one(tree: Path) -> None:
    (run,) = matrix.expand(load(tree, TOYNET_DROPOUT="0.25", ACTIVATION="gelu"))
    assert run.setting("dropout") == 0.25 and run.setting("activation") == "gelu"


def test_what_the_kconfig_does_not_allow_is_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match="DROPOUT=1: too large, allowed 0 to below 1"):
        load(tree, DROPOUT="1")


def test_the_command_line_offers_them_and_checks_them(tree: Path) -> None:
    symbols = load(tree)
    config = run_config(symbols, "toynet", "adamw", "none", 0.0, 0)
    changed = cli.with_values(symbols, config, {"dropout": "0.1", "activation": "gelu"})
    assert (changed.setting("dropout"), changed.setting("activation")) == (0.1, "gelu")
    with pytest.raises(ConfigError, match="dropout=2: too large"):
        cli.with_values(symbols, config, {"dropout": "2"})
    assert "--dropout DROPOUT" in cli.parser(symbols, "toynet", "").format_help()
    assert "--dropout" not in cli.parser(symbols, "lenet5", "").format_help()


def test_variants_may_change_them(tree: Path) -> None:
    symbols = load(tree, VARIANTS="wet: TOYNET_DROPOUT=0")
    assert variants.parse(symbols) == {"wet": {"TOYNET_DROPOUT": "0"}}
    assert [run.setting("dropout") for run in matrix.expand(symbols)] == [0.5, 0.0]


def test_config_yaml_holds_them_among_the_other_fields(tree: Path) -> None:
    (run,) = matrix.expand(load(tree))
    assert "dropout: 0.5\nactivation: relu\n" in run.to_yaml()
    assert RunConfig.from_yaml(run.to_yaml()) == run


def test_a_file_without_one_of_them_or_with_another_models_is_refused(tree: Path, tmp_path: Path) -> None:
    symbols = load(tree)
    (run,) = matrix.expand(symbols)
    file = tmp_path / "config.yaml"
    file.write_text(run.to_yaml().replace("dropout: 0.5", "width: 8"))
    with pytest.raises(ConfigError) as error:
        cli.from_file(symbols, "toynet", file)
    assert [p.removeprefix(f"{file}: ") for p in error.value.problems] == [
        "dropout: missing",
        "width=8: does not apply to adamwprune with state",
    ]


def test_a_misspelt_field_of_a_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    symbols = kconfig.load()
    file = tmp_path / "config.yaml"
    file.write_text(run_config(symbols, "lenet5", "adamw", "none", 0.0, 0).to_yaml() + "epoch: 3\n")
    with pytest.raises(ConfigError, match=r"epoch: no such field \(did you mean epochs\?\)"):
        cli.from_file(symbols, "lenet5", file)


def test_a_config_yaml_of_an_earlier_version_is_read_and_written_byte_for_byte() -> None:
    symbols = kconfig.load(overrides={"MODEL": "resnet18", "RESNET18_WIDTH": "16"})
    run = run_config(symbols, "resnet18", "adamw", "none", 0.0, 0)
    text = run.to_yaml()
    assert "tensorboard: false\nwidth: 16\nbeta1: 0.9\n" in text  # where the field stood when lib/ knew it
    assert RunConfig.from_yaml(text) == run and RunConfig.from_yaml(text).to_yaml() == text
