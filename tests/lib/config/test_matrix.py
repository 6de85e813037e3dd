from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.config.errors import ConfigError
from lib.config.kconfig import load, save
from lib.config.matrix import default_config, expand, from_yaml, load_matrix
from lib.config.resolve import legal
from lib.runner.folder import write_matrix
from lib.storage.project import ROOT
from lib.storage.run_dir import ResultsDir

PRESETS = {
    "quickstart": 8,
    "lenet5": 1,
    "lenet5-sgd": 1,
    "lenet5-adam": 1,
    "lenet5-adamw": 1,
    "lenet5-adamwadv": 1,
    "lenet5-adamwspam": 1,
    "lenet5-adamwprune": 1,
    "lenet5-compare": 39,
    "baseline-study-lenet5": 130,
    "criterion-study-lenet5": 510,
    "criterion-study-resnet18": 234,
    "criterion-study-resnet18-small": 234,
    "resnet18-adamwprune": 1,
    "resnet18-state-pruning-compare": 6,
    "resnet18-movement-pruning-compare": 5,
    "resnet18-comprehensive-pruning-compare": 39,
    "resnet18-speedrun": 1,
    "mode-study-lenet5": 50,
    "mode-study-resnet18-small": 30,
    "test-matrix-full": 144,
}


def names(**overrides: str) -> list[str]:
    return [run.run_id for run in expand(load(overrides=overrides))]


def test_every_preset_is_one_of_those_promised():
    assert {path.name for path in (ROOT / "defconfigs").iterdir()} == set(PRESETS)


@pytest.mark.parametrize(("preset", "runs"), PRESETS.items())
def test_a_preset_expands_to_its_number_of_different_runs(preset, runs):
    path = ROOT / "defconfigs" / preset
    symbols, found = load_matrix(ROOT, path)
    assert len({run.run_id for run in found}) == len(found) == runs
    assert symbols.value("PRESET") == preset
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "?" in first


def test_the_state_comparison_is_five_times_movement_and_once_state():
    _, runs = load_matrix(ROOT, ROOT / "defconfigs" / "resnet18-state-pruning-compare")
    found = [(run.optimizer, run.pruning_method, run.target_sparsity) for run in runs]
    others = ["sgd", "adam", "adamw", "adamwadv", "adamwspam"]
    assert found == [*((name, "movement", 0.7) for name in others), ("adamwprune", "state", 0.7)]


def test_the_quickstart_needs_no_network():
    _, runs = load_matrix(ROOT, ROOT / "defconfigs" / "quickstart")
    assert {run.dataset for run in runs} == {"mnist5k"}


def test_state_goes_with_adamwprune_only_and_the_others_with_the_others():
    assert legal("adamwprune", "state")
    assert not legal("adamwprune", "magnitude")
    assert not legal("adamwprune", "movement")
    assert not legal("adamw", "state")
    assert legal("adamw", "movement")
    assert legal("adamw", "none")
    assert legal("adamwprune", "none")


def test_a_dense_run_appears_once_per_seed_and_not_per_sparsity():
    found = names(OPTIMIZER="sgd", PRUNING_METHOD="none,magnitude", SPARSITY_50="y", SEEDS="2", SEED="5")
    assert found == [
        "lenet5_sgd_none_seed5",
        "lenet5_sgd_magnitude_50_seed5",
        "lenet5_sgd_magnitude_70_seed5",
        "lenet5_sgd_none_seed6",
        "lenet5_sgd_magnitude_50_seed6",
        "lenet5_sgd_magnitude_70_seed6",
    ]


def test_the_order_is_that_of_the_menus_however_it_is_typed():
    assert names(OPTIMIZER="adam,sgd", PRUNING_METHOD="none") == ["lenet5_sgd_none", "lenet5_adam_none"]


def test_a_target_sparsity_replaces_the_boxes():
    assert names(TARGET_SPARSITY="0.5") == ["lenet5_adamwprune_state_50"]
    assert names(TARGET_SPARSITY="0.6", SPARSITY_90="y") == ["lenet5_adamwprune_state_60"]


def test_no_method_prunes_to_a_sparsity_of_0():
    with pytest.raises(ConfigError, match=r"TARGET_SPARSITY=0: too small, allowed above 0 to 0\.999"):
        names(TARGET_SPARSITY="0")


def test_an_optimizer_alone_makes_a_dense_run_of_it():
    assert names(OPTIMIZER="sgd") == ["lenet5_sgd_none"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"MODEL_LENET5": "n"}, "no model is ticked"),
        ({"PRUNING_STATE": "n"}, "no pruning method is ticked"),
        ({"SPARSITY_70": "n"}, "no sparsity is ticked"),
        ({"PRUNING_METHOD": "magnitude"}, "magnitude with adamwprune gives no run"),
        ({"PRESET": "a/b"}, "PRESET=a/b: no name of a folder"),
        ({"PRESET": ".."}, "PRESET=..: no name of a folder"),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(overrides, problem):
    with pytest.raises(ConfigError, match=problem):
        names(**overrides)


def test_without_a_config_the_quickstart_is_meant(own_tree):
    assert default_config(own_tree) == own_tree / "defconfigs" / "quickstart"
    (own_tree / ".config").write_text("CONFIG_SEEDS=2\n")
    assert len(load_matrix(own_tree)[1]) == 2
    (own_tree / ".config").unlink()
    (own_tree / ".config").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="No such file"):
        load_matrix(own_tree)


MATRIX = """
models: lenet5
optimizers: [adamw, adamwprune]
pruning_methods: [none, magnitude, state]
sparsity_levels: [0.5, 0.975]
seeds: [3, 1]
overrides: {EPOCHS: 3, FLIP: true, DATA_DIR: a b, ADAMWPRUNE_EPS: 1.0e-6}
"""


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_a_matrix_in_yaml_expands_like_ticked_boxes(yaml_file):
    symbols, runs = load_matrix(ROOT, yaml_file(MATRIX))
    assert [run.run_id for run in runs][:4] == [
        "lenet5_adamw_none_seed3",
        "lenet5_adamw_magnitude_50_seed3",
        "lenet5_adamw_magnitude_97.5_seed3",
        "lenet5_adamwprune_none_seed3",
    ]
    assert [run.seed for run in runs] == [3] * 6 + [1] * 6
    assert len(runs) == 2 * (1 + 2) + 2 * (1 + 2)
    assert {(run.epochs, run.flip, run.data_dir) for run in runs} == {(3, True, "a b")}
    assert runs[-1].eps == 1e-6
    assert symbols.value("PRESET") == "mine"


@pytest.mark.parametrize("overrides", [{}, {"EPOCHS": "3", "TARGET_SPARSITY": "0.6", "SEEDS": "2"}])
@pytest.mark.parametrize("preset", ["quickstart", "criterion-study-lenet5"])
def test_the_matrix_of_a_results_folder_gives_the_runs_of_that_folder(preset, overrides, tmp_path):
    source = ROOT / "defconfigs" / preset
    symbols, runs = load_matrix(ROOT, source, overrides)
    folder = ResultsDir.create(tmp_path, preset)
    save(symbols, folder.config)
    write_matrix(folder, runs, source, overrides)
    again, same = load_matrix(ROOT, folder.matrix)
    assert same == runs and again.text("PRESET") == preset
    assert {run.epochs for run in load_matrix(ROOT, folder.matrix, {"EPOCHS": "4"})[1]} == {4}


def test_the_command_line_ranks_above_a_matrix_in_yaml(yaml_file):
    _, runs = from_yaml(
        yaml_file(MATRIX),
        {"EPOCHS": "5", "TARGET_SPARSITY": "0.9", "SEEDS": "1", "OPTIMIZER": "adamw", "PRUNING_METHOD": "magnitude"},
    )
    assert [(run.run_id, run.epochs) for run in runs] == [("lenet5_adamw_magnitude_90", 5)]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("models: lenet5", "models: vgg", "MODEL=vgg: no such member, allowed lenet5, resnet18"),
        ("models: lenet5", "model: lenet5", "model: no such key (did you mean models?)"),
        ("models: lenet5", "", "models: missing"),
        ("models: lenet5", "models: lenet5\nmodels: resnet18", "models stands here twice"),
        ("EPOCHS: 3", "EPOCHS: 0", "EPOCHS=0: too small, allowed 1 to 10000"),
        ("EPOCHS: 3", "EPOCH: 3", "EPOCH=3: no such symbol (did you mean EPOCHS?)"),
        ("EPOCHS: 3", "EPOCHS: .nan", "EPOCHS=nan: not a whole number"),
        ("[0.5, 0.975]", "[0.5, 1.5]", "sparsity_levels: 1.5: too large, allowed above 0 to 0.999"),
        ("[0.5, 0.975]", "[0, 0.5]", "sparsity_levels: 0: too small, allowed above 0 to 0.999"),
        ("[0.5, 0.975]", "[0.5, 0.50]", "sparsity_levels: 0.5 stands there twice"),
        ("[0.5, 0.975]", "[0.5, 0.500000001]", "adamw_magnitude_50_seed3: two runs would have this name"),
        ("[3, 1]", "[0, 0]", "seeds: 0 stands there twice"),
        ("models: lenet5", "models: [lenet5, lenet5]", "MODEL=lenet5,lenet5: lenet5 stands there twice"),
        ("[0.5, 0.975]", "[.nan]", "sparsity_levels: nan: not a finite number"),
        ("sparsity_levels: [0.5, 0.975]", "", "no sparsity is ticked"),
        ("[3, 1]", "[3, x]", "seeds: x: not a whole number"),
        ("[3, 1]", "0", "SEEDS=0: too small, allowed 1 to 1000"),
        ("[3, 1]", "two", "seeds=two: expected how many, or a list of whole numbers"),
        ("{EPOCHS: 3", "[EPOCHS, {A: 3", "not YAML"),
        ("DATA_DIR: a b", "DATA_DIR: [a]", "overrides: DATA_DIR: expected one value"),
        ("models: lenet5", "models: [[lenet5]]", "models: expected a value or a list of values"),
        ("[3, 1]", "[3, 1]\nextra: &a [1]\nmore: *a", "aliases are not read"),
        ("optimizers: [adamw, adamwprune]", "optimizers: [adamw]", "PRUNING_METHOD=none,magnitude,state: needs"),
    ],
)
def test_a_matrix_in_yaml_is_checked_like_the_menus(yaml_file, old, new, problem):
    assert old in MATRIX
    with pytest.raises(ConfigError) as error:
        from_yaml(yaml_file(MATRIX.replace(old, new)))
    assert problem in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "x", "a: {b", "1: 2", "{[a]: b}", "models: !!python/name:os.system ''"])
def test_what_is_no_matrix_is_refused_in_a_sentence(yaml_file, text):
    with pytest.raises(ConfigError):
        from_yaml(yaml_file(text))


KEYS = ("models", "optimizers", "pruning_methods", "sparsity_levels", "seeds", "overrides")
NAMES = ("EPOCHS", "SEEDS", "MODEL", "OPTIMIZER", "PRUNING_METHOD", "TARGET_SPARSITY", "VARIANTS", "PRESET", "JOBS")
WORDS = st.sampled_from(
    ["lenet5", "adamw", "state", "none", "y", "", "0.5", "nan", "1e999", "a:EPOCHS=3", ",", ":", "="]
)
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.just(10**400) | st.floats() | st.text(max_size=6) | WORDS
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(NAMES) | SCALARS, inner, max_size=3),
)  # fmt: skip
TOKENS = st.sampled_from(
    [
        *(f"{key}: " for key in KEYS),
        "[",
        "]",
        "{",
        "}",
        "\n",
        "  ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        "!!int ",
        "#",
        "|\n",
    ]
)


def comes_to_runs_or_to_sentences(content: bytes, overrides: dict[str, str], path: Path) -> None:
    path.write_bytes(content)
    try:
        assert from_yaml(path, overrides)[1]
    except ConfigError as error:
        assert error.problems


@settings(max_examples=30)
@given(content=st.lists(st.binary(max_size=8) | st.one_of(TOKENS, WORDS).map(str.encode), max_size=20).map(b"".join))
@example(content=b"seeds: !!int")  # PyYAML itself trips over these
@example(content=b"!!set [a]")
@example(content=b"[" * 3000)
def test_no_text_of_a_matrix_ends_in_anything_but_runs_or_sentences(content, tmp_path_factory):
    comes_to_runs_or_to_sentences(content, {}, tmp_path_factory.mktemp("noise") / "mine.yaml")


@settings(max_examples=30)
@given(key=st.sampled_from(KEYS), value=ANYTHING)
@example(key="seeds", value=[])
def test_no_value_in_a_matrix_ends_in_anything_but_runs_or_sentences(key, value, tmp_path_factory):
    content = yaml.safe_dump(yaml.safe_load(MATRIX) | {key: value}).encode()
    comes_to_runs_or_to_sentences(content, {}, tmp_path_factory.mktemp("wrong") / "mine.yaml")


@settings(max_examples=30)
@given(overrides=st.dictionaries(st.sampled_from([*NAMES, *load().names()]) | st.text(max_size=6), WORDS | st.text()))
def test_no_words_on_a_command_line_end_in_anything_but_runs_or_sentences(overrides, tmp_path_factory):
    comes_to_runs_or_to_sentences(MATRIX.encode(), overrides, tmp_path_factory.mktemp("typed") / "mine.yaml")
    try:
        assert expand(load(overrides=overrides))
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize(
    "preset", ["quickstart", "lenet5-compare", "resnet18-comprehensive-pruning-compare", "test-matrix-full"]
)
def test_a_comparison_ranks_magnitude_as_it_ranks_state(preset):
    runs = load_matrix(ROOT, ROOT / "defconfigs" / preset)[1]
    rankings = {run.pruning_method: run.ranking for run in runs if run.pruning_method in ("magnitude", "state")}
    assert rankings == {"magnitude": "layer_adaptive", "state": "layer_adaptive"}


@pytest.mark.parametrize("preset", ["lenet5", "resnet18", "resnet18-small"])
def test_the_criterion_studies_keep_global_magnitude_as_their_plain_arm(preset):
    runs = load_matrix(ROOT, ROOT / "defconfigs" / f"criterion-study-{preset}")[1]
    rankings = {run.variant: run.ranking for run in runs if run.pruning_method == "magnitude"}
    assert (rankings[None], rankings["lamp"]) == ("global", "layer_adaptive")


def test_a_matrix_that_is_a_pipe_or_far_too_large_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: not a regular file"):
        from_yaml(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 40)  # a hole, no bytes
    with pytest.raises(ConfigError, match=r"large\.yaml: larger than"):
        from_yaml(tmp_path / "large.yaml")
