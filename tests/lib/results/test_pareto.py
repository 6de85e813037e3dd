"""Who beats whom: more accuracy for no more memory."""

from __future__ import annotations

from lib.results.pareto import count_beaten_by, pareto_front


def test_pareto_front_holds_exactly_the_points_nothing_beats() -> None:
    points = [(1.0, 90.0), (2.0, 95.0), (2.0, 94.0), (3.0, 95.0), (4.0, 99.0)]
    assert pareto_front(points) == [0, 1, 4]


def test_each_point_is_beaten_by_those_that_cost_no_more_and_give_no_less_but_not_by_its_equals() -> None:
    points = [(1.0, 90.0), (2.0, 95.0), (2.0, 94.0), (3.0, 95.0), (2.0, 95.0), (4.0, 99.0)]
    assert count_beaten_by(points) == [0, 0, 2, 2, 0, 0]
