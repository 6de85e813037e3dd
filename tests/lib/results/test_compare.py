"""Comparing two results folders says what changed, and how sure that is."""

from __future__ import annotations

from pathlib import Path

from lib.results import compare, load
from lib.results.records import MeanStd
from tests.helpers.fake_results import make_results


def test_compare_gives_differences_with_their_error_and_names_what_stands_alone(tmp_path: Path) -> None:
    a = make_results(tmp_path / "a", [("adamw", "none", 0.0), ("sgd", "none", 0.0)], seeds=2, epochs=4)
    b = make_results(tmp_path / "b", [("adamw", "none", 0.0)], seeds=2, epochs=6)
    rows, told = compare.comparison(load.load(a), load.load(b))
    assert [row[0] for row in rows] == ["LeNet-5 AdamW dense"]
    assert "±" in rows[0][3]
    assert any("SGD dense" in sentence for sentence in told)
    assert "epochs: 4 in A, 6 in B (1 group)" in told
    assert compare.change(MeanStd(2, 90.0, 3.0), MeanStd(2, 91.0, 4.0)) == "+1.00 ± 3.54"
