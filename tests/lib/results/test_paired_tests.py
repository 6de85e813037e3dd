"""What is said about differences over seeds is what the runs say, pair by pair."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from lib.results import load, paired_tests
from lib.results.records import Results, RunRecord, SeedGroup
from tests.helpers.fake_results import make_results


def group(method: str, accuracies: dict[int, float], sparsity: float = 0.9, variant: str = "") -> SeedGroup:
    optimizer = "adamwprune" if method == "state" else "adamw"
    axes = {"model": "lenet5", "optimizer": optimizer, "pruning_method": method, "target_sparsity": sparsity}
    return SeedGroup(
        tuple(
            RunRecord(f"{method}{variant}{seed}", {**axes, "variant": variant, "seed": seed}, {"state": "done"},
                {"final_accuracy": value})
            for seed, value in accuracies.items()
        )
    )  # fmt: skip


def test_runs_are_paired_by_their_seed_and_tested_as_scipy_does():
    one, other = group("state", {0: 99.0, 1: 98.5, 2: 98.7, 9: 50.0}), group("magnitude", {2: 98.2, 0: 98.8, 1: 98.4})
    found = paired_tests.Difference.of(one, other, held_out=False)
    expected = stats.ttest_rel([99.0, 98.5, 98.7], [98.8, 98.4, 98.2])
    assert (found.n, found.mean) == (3, pytest.approx((0.2 + 0.1 + 0.5) / 3))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.sd == pytest.approx(math.sqrt(sum((x - found.mean) ** 2 for x in (0.2, 0.1, 0.5)) / 2))


def test_one_seed_or_no_common_seed_is_no_difference():
    one, two = group("state", {0: 99.0}), group("state", {0: 99.0, 1: 99.0})
    assert paired_tests.Difference.of(one, group("magnitude", {0: 98.0, 1: 98.0}), False) is None
    assert paired_tests.Difference.of(two, group("magnitude", {2: 98.0, 3: 98.0}), False) is None


def test_equal_differences_have_no_p():
    found = paired_tests.Difference.of(
        group("state", {0: 99.0, 1: 98.0}), group("magnitude", {0: 98.0, 1: 97.0}), False
    )
    assert (found.mean, found.p, found.texts()[1]) == (1.0, None, "–")


def test_equal_differences_that_rounding_makes_unequal_have_no_p_either():
    found = paired_tests.Difference.of(group("state", {0: 98.12, 1: 97.64}), group("none", {0: 98.02, 1: 97.54}), False)
    assert found.texts() == ("+0.10 ± 0.00", "–")


def test_the_table_compares_with_dense_and_with_plain_state_pruning_at_the_same_sparsity():
    groups = [
        group("none", {0: 99.5, 1: 99.3}, 0.0),
        group("magnitude", {0: 98.0, 1: 98.2}),
        group("state", {0: 99.0, 1: 99.1}),
        group("state", {0: 99.0, 1: 98.9}, variant="obd"),
        group("state", {0: 97.0, 1: 97.3}, 0.98),
    ]
    table = {
        (row[0], row[1]): row for row in paired_tests.rows(Results("r", tuple(run for g in groups for run in g.runs)))
    }
    assert table["AdamW magnitude", "90"][2:5] == ["2", "98.10 ± 0.14", "-1.30 ± 0.28"]
    assert table["AdamW magnitude", "90"][6] == "-0.95 ± 0.07"
    assert table["AdamWPrune state (obd)", "90"][6] == "-0.10 ± 0.14"
    assert table["AdamWPrune state", "98"][4] == "-2.25 ± 0.35"
    assert table["AdamWPrune state", "98"][6] == "–"


def test_held_out_images_decide_where_every_run_has_them():
    runs = [
        replace(run, metrics=[{"validation_accuracy": 90.0 + run.seed}])
        for g in (group("none", {0: 99.5, 1: 99.3}, 0.0), group("state", {0: 99.0, 1: 99.1}))
        for run in g.runs
    ]
    rows = paired_tests.rows(Results("r", tuple(runs)))
    assert [row[3] for row in rows] == ["90.50 ± 0.71"] * 2
    runs[0] = replace(runs[0], metrics=[])
    assert next(row[3] for row in paired_tests.rows(Results("r", tuple(runs)))) == "99.40 ± 0.14"


def test_a_matrix_of_one_seed_has_no_table(tmp_path):
    folder = make_results(tmp_path, [("adamw", "none", 0.0), ("adamwprune", "state", 0.9)])
    assert paired_tests.tables(load.load(folder)) == []
