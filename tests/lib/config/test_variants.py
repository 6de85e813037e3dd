"""A variant is the plain run with the settings it names, as if they had been typed, and nothing else."""

from __future__ import annotations

import pytest

from lib.config.errors import ConfigError
from lib.config.kconfig import load
from lib.config.matrix import expand
from lib.config.run_config import differences


def runs(variants: str, **overrides: str):
    return {run.run_id: run for run in expand(load(overrides={"VARIANTS": variants, **overrides}))}


def test_a_variant_stands_beside_the_plain_run_and_differs_in_its_settings_only():
    found = runs("obd: ADAMWPRUNE_EXPONENT=0.5")
    assert list(found) == ["lenet5_adamwprune_state_70", "lenet5_adamwprune_state_70_obd"]
    plain, obd = found.values()
    assert differences(plain, obd) == ["variant", "exponent"]
    assert (plain.exponent, obd.exponent) == (0.25, 0.5)


def test_the_menus_rules_hold_for_a_variant_as_if_it_had_been_typed():
    found = runs("dynamic: ADAMWPRUNE_MODE=dynamic; first-order: ADAMWPRUNE_CRITERION=first_order")
    assert found["lenet5_adamwprune_state_70_dynamic"].regrowth == 0.3
    assert found["lenet5_adamwprune_state_70_first-order"].exponent is None
    assert found["lenet5_adamwprune_state_70"].regrowth == 0.0


def test_the_symbols_are_afterwards_as_they_were():
    symbols = load(overrides={"VARIANTS": "a: PRUNING_END=0.9 ADAMWPRUNE_MODE=dynamic", "PRUNING_START": "0.2"})
    before = {name: symbols.text(name) for name in symbols}
    expand(symbols)
    assert {name: symbols.text(name) for name in symbols} == before


def test_only_runs_in_which_every_symbol_has_a_say_get_the_variant():
    found = runs(
        "lamp: MAGNITUDE_RANKING=layer_adaptive; late: PRUNING_END=0.8; later: PRUNING_END=0.9 ADAMWPRUNE_MODE=gradual",
        OPTIMIZER="adamw,adamwprune",
        PRUNING_METHOD="none,magnitude,state",
    )
    assert [name for name, run in found.items() if run.variant == "lamp"] == ["lenet5_adamw_magnitude_70_lamp"]
    assert [name for name, run in found.items() if run.variant == "late"] == [
        "lenet5_adamw_magnitude_70_late",
        "lenet5_adamwprune_state_70_late",
    ]
    assert [name for name, run in found.items() if run.variant == "later"] == ["lenet5_adamwprune_state_70_later"]


def test_a_short_name_means_the_symbol_of_every_method():
    found = runs("erk: RANKING=erk", OPTIMIZER="adamw,adamwprune", PRUNING_METHOD="magnitude,movement,state")
    ranked = [run for run in found.values() if run.variant == "erk"]
    assert [run.pruning_method for run in ranked] == ["magnitude", "movement", "state"]
    assert {run.ranking for run in ranked} == {"erk"}


def test_the_name_stands_before_the_seed_and_seeds_vary_slowest():
    assert list(runs("b2: ADAMWPRUNE_BETA2=0.99", SEEDS="2")) == [
        "lenet5_adamwprune_state_70_seed0",
        "lenet5_adamwprune_state_70_b2_seed0",
        "lenet5_adamwprune_state_70_seed1",
        "lenet5_adamwprune_state_70_b2_seed1",
    ]


def test_none_is_no_variant():
    assert list(runs("none")) == ["lenet5_adamwprune_state_70"]


@pytest.mark.parametrize(
    ("variants", "problem"),
    [
        ("obd ADAMWPRUNE_EXPONENT=0.5", "expected `name: SYMBOL=value"),
        ("o_bd: ADAMWPRUNE_EXPONENT=0.5", "o_bd: expected"),
        ("seed1: ADAMWPRUNE_EXPONENT=0.5", "seed1: expected"),
        ("obd:", "obd: changes nothing"),
        ("obd: ADAMWPRUNE_EXPONENT=2", "obd: ADAMWPRUNE_EXPONENT=2: too large, allowed 0 to 1"),
        ("obd: ADAMWPRUNE_EXPONENTS=0.5", "obd: ADAMWPRUNE_EXPONENTS: no setting of a run .did you mean"),
        ("obd: ADAMWPRUNE_EXPONENT", "obd: ADAMWPRUNE_EXPONENT: expected ADAMWPRUNE_EXPONENT=value"),
        ("obd: ADAMWPRUNE_EXPONENT=", "obd: ADAMWPRUNE_EXPONENT=: empty value"),
        ("obd: PRUNING_END=0.7 PRUNING_END=0.8", "obd: names a symbol twice"),
        ("two: SEEDS=2", "two: SEEDS: no setting of a run"),
        ("much: TARGET_SPARSITY=0.9", "much: TARGET_SPARSITY: no setting of a run"),
        ("a: PRUNING_END=0.7; a: PRUNING_END=0.8", "a: stands there twice"),
        ("lamp: MAGNITUDE_RANKING=erk", "lamp: applies to no run: none of them reads all of MAGNITUDE_RANKING"),
        ("early: PRUNING_END=0.05", "early: lenet5_adamwprune_state_70: pruning_start=0.1: after pruning_end=0.05"),
    ],
)
def test_a_variant_that_cannot_be_meant_is_refused_by_name(variants, problem):
    with pytest.raises(ConfigError, match=problem):
        runs(variants)
