"""Summaries of recordings and their comparison."""

from __future__ import annotations

from lib.monitor.summary import compare, durations, percentile, summarize
from tests.helpers.gpu_recordings import sample


def test_summary_of_training_leaves_out_startup_and_evaluation() -> None:
    records = [
        sample(0.0, "startup", process_mib=100.0),
        sample(1.0, "train", process_mib=400.0),
        sample(2.0, "ramp", process_mib=600.0),
        sample(3.0, "evaluate", process_mib=900.0),
        sample(4.0, "finetune", process_mib=500.0),
        sample(5.0, "done", process_mib=50.0),
    ]
    found = summarize(records)["devices"]["gpu 0"]
    assert found["training"]["process_mib"]["mean"] == 500.0
    assert found["training"]["process_mib"]["peak"] == 600.0
    assert found["training"]["seconds"] == 3.0
    assert found["all"]["process_mib"]["peak"] == 900.0
    assert found["evaluate"]["process_mib"]["samples"] == 1
    assert "power_w" not in found["all"]


def test_summary_without_phases_counts_everything_as_training() -> None:
    records = [sample(float(t), None, None, host_rss_mib=float(t)) for t in range(5)]
    found = summarize(records)["devices"]["host"]
    assert found["training"]["host_rss_mib"] == {"samples": 5, "mean": 2.0, "p50": 2.0, "p95": 3.8, "peak": 4.0}


def test_summary_of_samples_with_gaps_uses_those_that_have_the_reading() -> None:
    records = [sample(0.0, power_w=100.0), sample(1.0), sample(2.0, power_w=200.0), sample(3.0, power_w=None)]
    power = summarize(records)["devices"]["gpu 0"]["training"]["power_w"]
    assert (power["samples"], power["mean"]) == (2, 150.0)


def test_pause_between_interruption_and_resumption_is_no_training_time() -> None:
    records = [sample(t) for t in (0.0, 1.0, 2.0, 10_000.0, 10_001.0)]
    assert durations(records) == [1.0, 1.0, 1.0, 1.0, 1.0]


def test_percentiles_by_hand() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0], 100) == 2.0
    assert percentile([7.0], 95) == 7.0


def test_comparison_gives_difference_and_ratio_of_what_both_have() -> None:
    a = summarize([sample(0.0, process_mib=800.0, power_w=10.0), sample(1.0, process_mib=1000.0)])
    b = summarize([sample(0.0, process_mib=600.0), sample(1.0, process_mib=600.0)])
    rows = compare(a, b)
    assert {row["measure"] for row in rows} == {"process_mib", "seconds"}
    peak = next(row for row in rows if row["figure"] == "peak")
    assert (peak["a"], peak["b"], peak["difference"], peak["ratio"]) == (1000.0, 600.0, -400.0, 0.6)
