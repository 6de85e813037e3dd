from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib.pruning.score_histogram import LayerScores, log_histogram
from lib.pruning.selection import RANKINGS, Selection, keep_masks, min_survivors


def layer(
    scores: Tensor, name: str = "a", min_kept: int = 1, shape: tuple[int, ...] | None = None, cut: int = 5
) -> LayerScores:
    def slices() -> Iterator[Tensor]:
        for start in range(0, scores.numel(), cut):
            yield scores[start : start + cut]

    return LayerScores(name, shape or (scores.numel(),), scores.numel(), slices, min_kept)


def survivors(layers: list[LayerScores], prune: int, ranking: str) -> list[list[bool]]:
    selection = Selection(layers)
    thresholds = selection.thresholds(selection.prune_counts(prune, ranking))
    return [
        torch.cat(list(keep_masks(layer, threshold))).tolist()
        for layer, threshold in zip(layers, thresholds, strict=True)
    ]


def test_global_ranking_prunes_the_lowest_scores_wherever_they_are() -> None:
    first, second = torch.tensor([4.0, 1.0, 3.0, 2.0]), torch.tensor([0.5, 2.5, 1.5, 9.0])
    expected = [[True, False, True, False], [False, True, False, True]]
    assert survivors([layer(first), layer(second)], 4, "global") == expected


def test_negative_scores_rank_below_zero_and_minus_zero_equals_zero() -> None:
    scores = torch.tensor([0.0, -0.0, -3.0, -1.0, 2.0])
    assert survivors([layer(scores)], 3, "global") == [[False, True, False, False, True]]


@pytest.mark.parametrize("flush", [False, True])
def test_all_zeros_can_be_pruned_also_where_the_cpu_takes_denormals_for_zero(flush: bool) -> None:
    scores = torch.tensor([0.0, 3.0, 0.0, -2.0, 0.0, 1.0])
    torch.set_flush_denormal(flush)
    try:
        assert survivors([layer(scores)], 4, "global") == [[False, True, False, False, False, True]]
    finally:
        torch.set_flush_denormal(False)


def test_ties_are_broken_by_index() -> None:
    assert survivors([layer(torch.ones(7))], 4, "global") == [[False] * 4 + [True] * 3]
    two = [layer(torch.ones(4)), layer(torch.ones(4))]
    assert survivors(two, 4, "global") == [[False] * 3 + [True], [False] + [True] * 3]


def test_no_layer_falls_below_its_floor() -> None:
    poor, rich = torch.full((10,), 0.01), torch.full((10,), 5.0)
    result = survivors([layer(poor, min_kept=3), layer(rich, min_kept=3)], 14, "global")
    assert [sum(part) for part in result] == [3, 3]
    with pytest.raises(ValueError, match="floors leave 14"):
        survivors([layer(poor, min_kept=3), layer(rich, min_kept=3)], 15, "global")


def test_a_layer_of_one_weight_is_never_emptied() -> None:
    assert min_survivors(1, 0.0) == 1
    assert survivors([layer(torch.tensor([0.0])), layer(torch.arange(5.0))], 4, "global")[0] == [True]


def test_layer_adaptive_ranking_is_lamp() -> None:
    # LAMP by hand: layer a: 1/30, 4/29, 9/25, 16/16; layer b: 100/20000..., all scores ten times larger in b
    first, second = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([80.0, 90.0])
    # a: 0.033, 0.138, 0.36, 1; b: 6400/14500 = 0.441, 1. The three lowest are all in a.
    assert survivors([layer(first), layer(second)], 3, "layer_adaptive") == [[False] * 3 + [True], [True, True]]
    assert survivors([layer(first), layer(second)], 4, "layer_adaptive") == [[False] * 3 + [True], [False, True]]
    # scaling a whole layer changes nothing
    assert survivors([layer(first * 1e4), layer(second)], 4, "layer_adaptive") == [[False] * 3 + [True], [False, True]]


def test_uniform_keeps_the_same_fraction_everywhere() -> None:
    result = survivors([layer(torch.rand(40)), layer(torch.rand(60) + 9)], 70, "uniform")
    assert [sum(part) for part in result] == [12, 18]


def test_erk_keeps_more_of_small_layers() -> None:
    large, small = layer(torch.rand(1000), shape=(10, 100)), layer(torch.rand(100), shape=(10, 10))
    result = survivors([large, small], 770, "erk")
    # kept in proportion to 110 : 20 of 330 in all
    assert [sum(part) for part in result] == [279, 51]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -float("nan")])
def test_a_score_that_is_not_finite_names_its_layer(bad: float) -> None:
    with pytest.raises(ValueError, match="layer conv9"):
        Selection([layer(torch.tensor([1.0, bad]), name="conv9")])


def test_an_unknown_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match="ranking must be one of global"):
        Selection([layer(torch.ones(3))]).prune_counts(1, "lamp")


scores_of_layers = st.lists(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([0.0, 1.0, -0.0]), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(scores_of_layers, st.floats(0, 1), st.sampled_from(RANKINGS), st.floats(0, 0.5))
def test_the_number_pruned_is_exact_and_each_layer_loses_its_lowest(
    values: list[list[float]], share: float, ranking: str, floor: float
) -> None:
    tensors = [torch.tensor(part) for part in values]
    layers = [layer(part, min_kept=min_survivors(part.numel(), floor)) for part in tensors]
    room = sum(one.candidates - one.min_kept for one in layers)
    prune = round(share * room)
    result = survivors(layers, prune, ranking)
    assert sum(part.count(False) for part in result) == prune
    for one, scores, keep in zip(layers, tensors, result, strict=True):
        assert sum(keep) >= one.min_kept
        order = np.argsort(scores.numpy() + np.float32(0.0), kind="stable")
        assert sorted(order[: keep.count(False)]) == [index for index, alive in enumerate(keep) if not alive]


@settings(max_examples=30, deadline=None)
@given(scores_of_layers, st.floats(0, 1))
def test_global_ranking_equals_sorting_everything(values: list[list[float]], share: float) -> None:
    tensors = [torch.tensor(part) for part in values]
    whole = np.concatenate([part.numpy() + np.float32(0.0) for part in tensors])
    prune = round(share * whole.size)
    result = survivors([layer(part, min_kept=0) for part in tensors], prune, "global")
    pruned = [not alive for part in result for alive in part]
    assert sorted(np.sort(whole)[:prune]) == sorted(whole[np.array(pruned)])


def test_half_precision_scores_are_ranked_exactly() -> None:
    scores = torch.tensor([3, 1, 2, 65504, 0.0001], dtype=torch.float16)
    assert survivors([layer(scores)], 2, "global") == [[True, False, True, True, False]]


def test_the_histogram_of_an_update_counts_what_was_ranked_and_what_was_pruned() -> None:
    selection = Selection([layer(torch.tensor([1.0, 2.0, 4.0, 8.0])), layer(torch.tensor([1.0, 16.0, 0.0]))])
    pruned = selection.prune_counts(3, "global")
    histogram = log_histogram(selection.coarse, pruned, bins=4)
    assert histogram["edges"][0] == 1.0 and histogram["edges"][-1] == pytest.approx(16.16)
    assert histogram["counts"] == [3, 1, 1, 1]  # the zero has no place on a logarithmic axis
    assert histogram["pruned"] == [2, 0, 0, 0]
    nothing = log_histogram(Selection([layer(torch.zeros(3))]).coarse, np.array([1]))
    assert nothing == {"edges": [], "counts": [], "pruned": []}
