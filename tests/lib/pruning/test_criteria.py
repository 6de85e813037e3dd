from __future__ import annotations

import pytest
import torch

from lib.pruning.criteria import first_order, fisher, hybrid, movement

W = torch.tensor([1.0, -2.0, 3.0, 0.0])
M = torch.tensor([0.5, 0.5, -0.1, 7.0])
V = torch.tensor([16.0, 1.0, 0.0, 81.0])


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(0.0, [1, 2, 3, 0]), (0.25, [2, 2, 0, 0]), (0.5, [4, 2, 0, 0]), (1.0, [16, 2, 0, 0])],
)
def test_fisher_is_magnitude_times_a_power_of_the_second_moment(exponent: float, expected: list[float]) -> None:
    assert fisher(W, M, V, exponent).tolist() == pytest.approx(expected)


def test_first_order_is_the_size_of_weight_times_momentum() -> None:
    assert first_order(W, M, V, 0.0).tolist() == pytest.approx([0.5, 1.0, 0.3, 0.0])


def test_movement_favours_weights_that_move_away_from_zero() -> None:
    # a step goes against the gradient: w > 0 with m > 0 shrinks, w < 0 with m > 0 grows
    assert movement(W, M, V, 0.0).tolist() == pytest.approx([-0.5, 1.0, 0.3, 0.0])


def test_hybrid_is_the_published_importance() -> None:
    assert hybrid(W[:2], M[:2], V[:2], 0.0).tolist() == pytest.approx([0.5 * 1 / 4, 1.0 * 2 / 1])


def test_scores_leave_their_inputs_alone() -> None:
    before = [tensor.clone() for tensor in (W, M, V)]
    for criterion in (fisher, first_order, movement, hybrid):
        criterion(W, M, V, 0.25)
    assert all(torch.equal(old, new) for old, new in zip(before, (W, M, V), strict=True))
