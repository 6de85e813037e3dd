from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.pruning.schedule import CubicSchedule, exchange_fraction

RAMP = CubicSchedule(final=0.8, start=10, end=110, interval=25)


def test_sparsity_follows_the_cubic_of_zhu_and_gupta() -> None:
    assert RAMP.sparsity(10) == 0.0
    assert RAMP.sparsity(60) == pytest.approx(0.8 * (1 - 0.5**3))
    assert RAMP.sparsity(110) == RAMP.sparsity(10_000) == 0.8


def test_updates_come_every_interval_and_once_at_the_end() -> None:
    assert [step for step in range(200) if RAMP.is_update(step)] == [35, 60, 85, 110]
    odd = CubicSchedule(final=0.5, start=0, end=10, interval=4)
    assert [step for step in range(20) if odd.is_update(step)] == [4, 8, 10]


def test_sparsity_zero_never_updates() -> None:
    assert not any(CubicSchedule(0.0, 0, 10, 1).is_update(step) for step in range(20))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1.0, 0, 10, 1), "sparsity"),
        ((-0.1, 0, 10, 1), "sparsity"),
        ((float("nan"), 0, 10, 1), "sparsity"),
        ((0.5, -1, 10, 1), "start_step"),
        ((0.5, 10, 10, 1), "end_step"),
        ((0.5, 0, 10, 0), "update_interval"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[float, int, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CubicSchedule(*arguments)


@given(
    final=st.floats(0.01, 0.99),
    start=st.integers(0, 500),
    length=st.integers(1, 500),
    interval=st.integers(1, 600),
)
def test_sparsity_only_rises_and_ends_exactly(final: float, start: int, length: int, interval: int) -> None:
    schedule = CubicSchedule(final, start, start + length, interval)
    values = [schedule.sparsity(step) for step in range(start + length + 2)]
    assert values == sorted(values)
    assert values[-1] == final
    assert schedule.is_update(start + length)


def test_fractions_of_a_very_short_run_still_make_a_ramp() -> None:
    schedule = CubicSchedule.from_fractions(0.5, 0.1, 0.6, 50, total_steps=1)
    assert schedule.is_update(1)


def test_exchange_decays_from_its_start_to_nothing() -> None:
    assert exchange_fraction(0.3, 0.0) == pytest.approx(0.3)
    assert exchange_fraction(0.3, 0.5) == pytest.approx(0.15)
    assert exchange_fraction(0.3, 1.0) == pytest.approx(0.0)


def test_early_updates_begin_before_the_ramp_and_are_the_ramps_own_from_there() -> None:
    schedule = CubicSchedule(0.5, 10, 20, 4)
    assert [step for step in range(30) if schedule.is_early_update(step)] == [4, 8, 14, 18, 20]
    assert [step for step in range(30) if schedule.is_update(step)] == [14, 18, 20]
    assert not any(CubicSchedule(0.0, 10, 20, 4).is_early_update(step) for step in range(30))
