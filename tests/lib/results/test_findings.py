"""The sentences that open a report say what the results say, and no more than n allows."""

from __future__ import annotations

import json
from pathlib import Path

from lib.results import load
from lib.results.findings import findings
from tests.helpers.fake_results import make_results, make_run

RUNS = [("adamw", "none", 0.0), ("adamw", "magnitude", 0.9), ("sgd", "magnitude", 0.9), ("adamwprune", "state", 0.9)]


def with_accuracies(folder: Path, accuracies: dict[str, list[float]]) -> str:
    for start, values in accuracies.items():
        for path, value in zip(sorted(folder.glob(f"lenet5_{start}*/summary.json")), values, strict=True):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"final_accuracy": value}))
    return " ".join(findings(load.load(folder)))


def test_the_best_is_named_with_those_that_chance_cannot_tell_from_it(tmp_path: Path) -> None:
    text = with_accuracies(
        make_results(tmp_path, RUNS, seeds=3),
        {
            "adamwprune_state_90": [98.9, 99.0, 99.1], "adamw_magnitude_90": [98.8, 99.1, 99.0],
            "sgd_magnitude_90": [97.0, 97.1, 97.3], "adamw_none": [99.3, 99.2, 99.4],
        },
    )  # fmt: skip
    assert "mean test accuracy at 90 % sparsity is 99.00 ± 0.10 % (AdamWPrune state 90 %, n=3)" in text
    assert "AdamW dense has 99.30 %" in text
    assert "Not told apart from it (paired by seed, p ≥ 0.05): AdamW magnitude 90 %." in text
    assert "SGD magnitude" not in text.split("Peak memory")[0], "it differs, p < 0.05"


def test_where_all_differ_it_is_said(tmp_path: Path) -> None:
    folder = make_results(tmp_path, RUNS[1:2] + RUNS[3:], seeds=3)
    text = with_accuracies(
        folder, {"adamwprune_state_90": [98.9, 99.0, 99.1], "adamw_magnitude_90": [98.0, 98.2, 98.2]}
    )
    assert "All others at this sparsity are lower (paired by seed, p < 0.05 each)." in text


def test_one_seed_claims_no_difference_and_says_so(tmp_path: Path) -> None:
    text = " ".join(findings(load.load(make_results(tmp_path, RUNS))))
    assert "One seed each" in text and "Not told apart" not in text and "All others" not in text


def test_memory_is_told_at_the_peak_and_at_the_end(tmp_path: Path) -> None:
    text = " ".join(findings(load.load(make_results(tmp_path, RUNS))))
    assert "AdamWPrune state 90 % holds 0.93 bytes of state per prunable weight at the end and " in text
    assert "(AdamW dense: 8.04)" in text and "Peak memory is lowest with " in text


def test_memory_that_is_the_same_in_all_or_has_nothing_beside_it_is_not_called_unrecorded(tmp_path: Path) -> None:
    same = make_results(tmp_path / "same", [("adamw", "magnitude", 0.7), ("adamw", "magnitude", 0.9)])
    assert "Peak memory is the same in all configurations." in findings(load.load(same))
    alone = make_results(tmp_path / "alone", RUNS[:1])
    assert "One configuration: there is no memory to compare it with." in findings(load.load(alone))


def test_without_a_complete_run_nothing_is_claimed(tmp_path: Path) -> None:
    make_run(tmp_path, state="failed")
    assert findings(load.load(tmp_path)) == []
