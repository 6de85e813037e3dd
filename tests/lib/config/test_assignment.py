"""`NAME=value` on a command line: what a name means, and what is refused."""

from __future__ import annotations

import pytest

from lib.config.errors import ConfigError
from lib.config.kconfig import load, save
from lib.config.matrix import load_matrix
from lib.storage.project import ROOT


def test_an_override_sets_every_symbol_that_it_abbreviates():
    both = load(overrides={"MODEL": "lenet5,resnet18", "EPOCHS": "3", "LEARNING_RATE": "0.1"})
    assert (both.value("LENET5_EPOCHS"), both.value("RESNET18_EPOCHS")) == (3, 3)
    assert both.value("RESNET18_ADAMWPRUNE_LEARNING_RATE") == 0.1
    one = load(overrides={"OPTIMIZER": "sgd,adamw", "SGD_LEARNING_RATE": "0.2"})
    assert one.value("LENET5_SGD_LEARNING_RATE") == 0.2
    assert one.value("LENET5_ADAMW_LEARNING_RATE") != 0.2


def test_an_override_of_a_choice_selects_its_member():
    symbols = load(overrides={"LENET5_DATASET": "mnist5k"})
    assert symbols.value("LENET5_DATASET") == "mnist5k"
    assert symbols.value("LENET5_DATASET_MNIST5K") is True


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"EPOCHS": "three"}, "EPOCHS=three: not a whole number, allowed 1 to 10000"),
        ({"EPOCHS": ""}, "EPOCHS=: empty value, allowed 1 to 10000"),
        ({"EPOCH": "3"}, "EPOCH=3: no such symbol (did you mean EPOCHS?)"),
        ({"LEARNING_RATE": "nan"}, "LEARNING_RATE=nan: not a finite number, allowed above 0 to 10000000000"),
        ({"TARGET_SPARSITY": "1.5"}, "TARGET_SPARSITY=1.5: too large, allowed above 0 to 0.999"),
        ({"TARGET_SPARSITY": ""}, "TARGET_SPARSITY=: empty value, allowed above 0 to 0.999"),
        ({"DEVICE": "gpu"}, "DEVICE=gpu: no such choice, allowed auto, cpu, cuda"),
        (
            {"OPTIMIZER": "sdg"},
            "OPTIMIZER=sdg: no such member (did you mean sgd?), allowed sgd, adam, adamw, "
            "adamwadv, adamwspam, adamwprune",
        ),
        ({"SGD_MOMENTUM": "0.5"}, "SGD_MOMENTUM=0.5: needs OPTIMIZER_SGD"),
        ({"OPTIMIZER": "sgd", "PRUNING_METHOD": "state"}, "PRUNING_METHOD=state: needs OPTIMIZER_ADAMWPRUNE"),
    ],
)
def test_an_override_that_means_nothing_is_refused(overrides, problem):
    with pytest.raises(ConfigError) as error:
        load(overrides=overrides)
    assert error.value.problems == [f"command line: {problem}"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"DATASET": "mnist5k"}, ""),
        ({"DATASET": "cifar10"}, "allowed mnist, mnist5k, image_folder, synthetic for LENET5_DATASET"),
        ({"MODEL": "lenet5,resnet18", "DATASET": "mnist5k"}, "synthetic for RESNET18_DATASET"),
        ({"MODEL": "resnet18", "DATASET": "cifar10"}, ""),
        ({"MODEL": "lenet5,resnet18", "DATASET": "synthetic"}, ""),
        ({"DATASET": "imagenet"}, "no such choice"),
    ],
)
def test_a_short_name_has_to_be_a_value_for_the_chosen_models_only(values: dict[str, str], wrong: str) -> None:
    if not wrong:
        load(ROOT, overrides=values)
        return
    with pytest.raises(ConfigError, match=wrong):
        load(ROOT, overrides=values)


def test_a_written_config_means_the_runs_of_the_preset_it_was_written_from(tmp_path):
    for preset in (ROOT / "defconfigs").iterdir():
        config = tmp_path / ".config"
        save(load(config_file=preset), config)
        assert load_matrix(config_file=config)[1] == load_matrix(config_file=preset)[1]


def test_what_follows_by_default_follows_from_an_override_of_a_written_config(tmp_path):
    config = tmp_path / ".config"
    save(load(config_file=ROOT / "defconfigs" / "lenet5-adamwprune"), config)
    assert 'CONFIG_ADAMWPRUNE_REGROWTH="0.0"' in config.read_text()
    _, runs = load_matrix(config_file=config, overrides={"ADAMWPRUNE_MODE": "dynamic"})
    assert [run.regrowth for run in runs] == [0.3]


def test_what_somebody_has_chosen_is_not_overridden_by_a_default(tmp_path):
    config = tmp_path / ".config"
    save(load(overrides={"ADAMWPRUNE_REGROWTH": "0.1"}), config)
    _, runs = load_matrix(config_file=config, overrides={"ADAMWPRUNE_MODE": "dynamic"})
    assert {run.regrowth for run in runs} - {None} == {0.1}


def test_what_was_typed_holds_for_variants_too_also_where_it_is_the_default():
    preset = ROOT / "defconfigs" / "lenet5-adamwprune"
    arms = {"VARIANTS": "dynamic: ADAMWPRUNE_MODE=dynamic"}
    _, runs = load_matrix(config_file=preset, overrides={**arms, "ADAMWPRUNE_REGROWTH": "0.0"})
    assert [run.regrowth for run in runs] == [0.0, 0.0]


def test_what_a_yaml_matrix_says_holds_also_where_it_is_the_default(tmp_path):
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        "models: [lenet5]\noptimizers: [adamw, adamwprune]\npruning_methods: [magnitude, state]\n"
        "sparsity_levels: [0.5]\noverrides: {ADAMWPRUNE_REGROWTH: '0.0'}\n"
    )
    _, runs = load_matrix(config_file=matrix, overrides={"ADAMWPRUNE_MODE": "dynamic"})
    assert [run.regrowth for run in runs if run.optimizer == "adamwprune"] == [0.0]
    _, runs = load_matrix(config_file=matrix, overrides={"OPTIMIZER": "adamw"})
    assert [run.pruning_method for run in runs] == ["magnitude"]
