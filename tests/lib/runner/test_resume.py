"""What matrix.yaml says of where the runs come from, and the command that repeats them."""

from __future__ import annotations

import pytest

from lib.config import kconfig
from lib.results.load import load
from lib.results.recipe import recipe
from lib.runner.folder import origin
from tests.helpers.fake_tree import ROOT, THREE_RUNS, folders, make_tree, run


def test_an_unchanged_preset_is_named(tmp_path):
    config = tmp_path / ".config"
    kconfig.save(kconfig.load(ROOT, ROOT / "defconfigs/lenet5-compare"), config)
    assert origin(config) == "defconfig-lenet5-compare"


@pytest.mark.parametrize("change", [{"LENET5_BATCH_SIZE": "64"}, {"PRESET": "mine"}, {"SPARSITY_98": "y"}])
def test_a_changed_preset_is_not(tmp_path, change):
    config = tmp_path / ".config"
    kconfig.save(kconfig.load(ROOT, ROOT / "defconfigs/lenet5-compare", change), config)
    assert origin(config) == "menuconfig"


def test_the_command_starts_from_the_preset_under_whatever_name_the_folder_goes(tmp_path):
    tree = make_tree(tmp_path / "tree")
    kconfig.save(kconfig.load(tree, tree / "defconfigs/quickstart"), tree / ".config")
    assert run(tree, *THREE_RUNS, "PRESET=mine")[0] == 0
    (folder,) = folders(tree)
    first = recipe(load(folder))
    assert folder.name.startswith("mine-") and first.startswith("make defconfig-quickstart && make ")
    assert run(tree, "--continue", "EPOCHS=3")[0] == 0  # finds it without PRESET
    assert folders(tree) == [folder]
    assert recipe(load(folder)) == first.replace("EPOCHS=2", "EPOCHS=3")


def test_a_yaml_matrix_is_repeated_by_its_file(tmp_path):
    tree = make_tree(tmp_path / "tree")
    asked = "models: [lenet5]\noptimizers: [sgd]\npruning_methods: [none]\n"
    (tree / "my runs.yaml").write_text(asked + "overrides: {LENET5_DATASET: synthetic, EPOCHS: 2}\n")
    assert run(tree, "--config", "my runs.yaml", "SEED=3")[0] == 0
    (folder,) = folders(tree)
    assert recipe(load(folder)) == "python -m scripts.run_matrix --config 'my runs.yaml' JOBS=1 SEED=3"
