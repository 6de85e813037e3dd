from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.config import kconfig, matrix
from lib.config.cli import with_values
from lib.config.errors import ConfigError
from lib.config.kconfig import load
from lib.config.resolve import problems, run_config, symbol_of
from lib.config.run_config import AXIS_FIELDS, FIELD_TYPES, PRUNING_FIELDS, RunConfig, differences
from lib.config.symbols import MATRIX_SYMBOLS, field_symbols
from lib.storage.project import ROOT

SYMBOLS = kconfig.defaults()
KINDS = {int: {"int"}, float: {"float"}, bool: {"bool"}, str: {"choice", "string"}}
EVERYTHING = {
    "MODEL": ",".join(SYMBOLS.axis("MODEL")),
    "OPTIMIZER": ",".join(SYMBOLS.axis("OPTIMIZER")),
    "PRUNING_METHOD": ",".join(SYMBOLS.axis("PRUNING")),
}


def axis_boxes() -> set[str]:
    axes = ("MODEL", "OPTIMIZER", "PRUNING", "SPARSITY")
    return {f"{axis}_{member}".upper() for axis in axes for member in SYMBOLS.axis(axis)}


def test_every_symbol_is_a_box_of_the_matrix_a_member_of_a_choice_or_gives_one_field():
    of_fields = field_symbols(SYMBOLS)
    known = {*axis_boxes(), *MATRIX_SYMBOLS, *of_fields}
    for name in SYMBOLS:
        if siblings := SYMBOLS.siblings(name):
            owners = [s for s in of_fields if all(member.startswith(s + "_") for member in siblings)]
            assert len(owners) == 1, f"{name} is of a choice that no field reads"
        else:
            assert name in known, f"{name} is read by nobody"


def test_every_field_has_a_symbol_of_its_type():
    of_fields = field_symbols(SYMBOLS)
    for field, kind in FIELD_TYPES.items():
        symbols = [name for name, (f, _) in of_fields.items() if f == field]
        if field not in ("model", "optimizer", "pruning_method", "seed_in_name", "variant"):
            assert symbols, f"no symbol gives {field}"
        for name in symbols:
            assert SYMBOLS.spec(name).kind in KINDS[kind], name


def test_every_symbol_that_can_be_changed_changes_some_run_or_the_matrix():
    base = load(overrides=EVERYTHING)
    before = {run.run_id: run for run in matrix.expand(base)}
    for name in base:
        spec = base.spec(name)
        if not base.has_prompt(name) or base.siblings(name) or name in MATRIX_SYMBOLS or name in axis_boxes():
            continue
        now = base.value(name)
        other = {
            "bool": lambda now=now: "n" if now else "y",
            "int": lambda spec=spec, now=now: str(int(spec.high if now != spec.high else spec.low)),
            "float": lambda spec=spec, now=now: f"{(spec.low + spec.high) / 2 if now != 0.5 else 0.4}",
            "string": lambda: "elsewhere",
        }[spec.kind]()
        changed = {"MIN_DENSITY": "0.2", "PRUNING_START": "0.2"}.get(name, other)
        after = {run.run_id: run for run in matrix.expand(load(overrides={**EVERYTHING, name: changed}))}
        assert after != before, f"{name} changes nothing"


def test_the_member_of_a_choice_that_its_symbol_names_is_the_one_that_is_set():
    for name in SYMBOLS:
        spec = SYMBOLS.spec(name)
        for member in spec.choices:
            symbols = load(overrides={**EVERYTHING, name: member})
            assert symbols.value(name) == member
            assert symbols.value(f"{name}_{member}".upper()) is True
            assert sum(symbols.value(s) for s in symbols.siblings(f"{name}_{member}".upper())) == 1


def test_a_choice_falls_back_to_its_default_member_where_it_is_not_visible():
    hidden = load(overrides={"MODEL": "lenet5", "OPTIMIZER": "sgd", "PRUNING_METHOD": "none"})
    shown = load(overrides=EVERYTHING)
    for name in shown:
        if shown.spec(name).kind == "choice":
            assert hidden.value(name) == shown.value(name), name


def test_every_help_that_a_user_reads_says_something():
    for name in SYMBOLS:
        if SYMBOLS.has_prompt(name) and not SYMBOLS.siblings(name) and not name.startswith("SPARSITY_"):
            assert len(SYMBOLS.spec(name).help) > 40, name


def test_the_most_specific_symbol_gives_the_value():
    assert symbol_of(SYMBOLS, "lenet5", "sgd", "none", "learning_rate") == "LENET5_SGD_LEARNING_RATE"
    assert symbol_of(SYMBOLS, "lenet5", "sgd", "none", "epochs") == "LENET5_EPOCHS"
    assert symbol_of(SYMBOLS, "lenet5", "sgd", "none", "momentum") == "SGD_MOMENTUM"
    assert symbol_of(SYMBOLS, "lenet5", "adam", "none", "momentum") is None
    assert symbol_of(SYMBOLS, "lenet5", "sgd", "magnitude", "ranking") == "MAGNITUDE_RANKING"
    assert symbol_of(SYMBOLS, "lenet5", "adamwprune", "state", "ranking") == "ADAMWPRUNE_RANKING"
    assert symbol_of(SYMBOLS, "lenet5", "sgd", "none", "download") == "DOWNLOAD"


def test_a_run_without_pruning_has_no_pruning_fields(make_config):
    for optimizer in SYMBOLS.axis("OPTIMIZER"):
        run = make_config("lenet5", optimizer, "none")
        assert run.target_sparsity == 0.0
        assert all(getattr(run, field) is None for field in PRUNING_FIELDS)
        assert not PRUNING_FIELDS & {line.split(":")[0] for line in run.to_yaml().splitlines()}


def test_the_exponent_belongs_to_the_fisher_criterion_only():
    axes = {"OPTIMIZER": "adamwprune", "PRUNING_METHOD": "state"}
    for criterion, exponent in (("fisher", 0.25), ("hybrid", None)):
        (run,) = matrix.expand(load(overrides={**axes, "CRITERION": criterion}))
        assert (run.criterion, run.exponent) == (criterion, exponent)


def test_the_name_of_a_run_tells_it_apart(make_config):
    assert make_config("lenet5", "sgd", "none").run_id == "lenet5_sgd_none"
    pruned = make_config("resnet18", "adamwprune", "state", 0.7)
    assert pruned.run_id == "resnet18_adamwprune_state_70"
    assert replace(pruned, target_sparsity=0.975).run_id == "resnet18_adamwprune_state_97.5"
    assert replace(pruned, seed=3, seed_in_name=True).run_id == "resnet18_adamwprune_state_70_seed3"


@pytest.mark.parametrize("optimizer", SYMBOLS.axis("OPTIMIZER"))
def test_yaml_gives_back_the_run_and_leaves_out_what_does_not_apply(make_config, optimizer):
    run = make_config("resnet18", optimizer, "none")
    assert RunConfig.from_yaml(run.to_yaml()) == run
    assert "null" not in run.to_yaml()


@given(
    floats=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["C"]), min_size=1),
    whole=st.integers(0, 2**31),
)
def test_yaml_gives_back_any_value(floats, text, whole):
    (run,) = matrix.expand(SYMBOLS)
    run = replace(run, learning_rate=floats, data_dir=text, train_images=whole, regrowth=-floats)
    assert RunConfig.from_yaml(run.to_yaml()) == run


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("epochs: three", "epochs=three: not a whole number"),
        ("epochs: 3.5", "epochs=3.5: not a whole number"),
        ("epochs: true", "epochs=True: not a whole number"),
        ("epochs: null", "epochs: missing"),
        ("learning_rate: .nan", "learning_rate=nan: not a finite number"),
        ("learning_rate: -.inf", "learning_rate=-inf: not a finite number"),
        ("flip: 1", "flip=1: not true or false"),
        ("device: [cpu]", "device=['cpu']: not text"),
        ("width: [8]", "width=[8]: not one value"),
    ],
)
def test_yaml_with_a_wrong_line_is_refused_with_its_reason(make_config, line, problem):
    key = line.split(":")[0]
    lines = [text for text in make_config().to_yaml().splitlines() if not text.startswith(f"{key}:")]
    with pytest.raises(ConfigError) as error:
        RunConfig.from_yaml("\n".join([*lines, line]))
    assert error.value.problems == [problem]


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "just words", "a: 1\n\tb: 2", "!!python/object:os.system {}"])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(ConfigError):
        RunConfig.from_yaml(text)


@given(st.text())
def test_no_text_ends_in_anything_but_a_configuration_or_sentences(text):
    with pytest.raises(ConfigError):
        RunConfig.from_yaml(text)


def test_values_out_of_range_are_found_in_a_run_as_well(make_config):
    run = make_config("lenet5", "sgd", "magnitude")
    assert problems(SYMBOLS, run) == []
    wrong = replace(run, epochs=0, momentum=1.0, dataset="imagenet", target_sparsity=math.nextafter(0, -1))
    assert len(problems(SYMBOLS, wrong)) == 4
    assert problems(SYMBOLS, replace(run, optimizer="sdg"))


def test_values_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="after pruning_end"):
        matrix.expand(load(overrides={"PRUNING_START": "0.9"}))
    with pytest.raises(ConfigError, match="min_density"):
        matrix.expand(load(overrides={"TARGET_SPARSITY": "0.995"}))


def test_what_lean_mode_cannot_do_is_refused():
    lean = {"OPTIMIZER": "adamwprune", "PRUNING_METHOD": "state", "ADAMWPRUNE_MODE": "lean"}
    assert {run.mode for run in matrix.expand(load(overrides=lean))} == {"lean"}
    with pytest.raises(ConfigError, match="in lean mode nothing pruned returns"):
        matrix.expand(load(overrides=lean | {"ADAMWPRUNE_REGROWTH": "0.1"}))
    with pytest.raises(ConfigError, match="criterion=movement: not fisher, by which lean mode ranks"):
        matrix.expand(load(overrides=lean | {"ADAMWPRUNE_CRITERION": "movement"}))


def test_fields_can_be_changed_by_what_a_user_types(make_config):
    run = make_config("lenet5", "sgd", "magnitude")
    changed = with_values(SYMBOLS, run, {"epochs": "3", "flip": "y", "momentum": "0.5", "dataset": "mnist5k"})
    assert differences(run, changed) == ["epochs", "dataset", "flip", "momentum"]
    assert (changed.epochs, changed.flip, changed.momentum, changed.dataset) == (3, True, 0.5, "mnist5k")
    with pytest.raises(ConfigError) as error:
        with_values(SYMBOLS, run, {"epochs": "0", "beta1": "0.5", "learning_rate": "nan", "optimizer": "adam"})
    assert len(error.value.problems) == 4


def test_a_run_of_a_box_that_is_not_ticked_still_has_every_value():
    for model in SYMBOLS.axis("MODEL"):
        for optimizer in SYMBOLS.axis("OPTIMIZER"):
            run_config(SYMBOLS, model, optimizer, "none", 0.0, 0)


def test_axis_fields_are_fields():
    assert set(AXIS_FIELDS) < set(FIELD_TYPES)
    assert set(FIELD_TYPES) > PRUNING_FIELDS


def test_configuration_needs_neither_torch_nor_time():
    modules = "lib.config.kconfig, lib.config.matrix, lib.config.resolve"
    code = f"import sys, {modules}; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
