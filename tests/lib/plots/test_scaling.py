"""The picture of `make bench` compares nothing that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lib.plots import scaling

PUBLISHED = Path(__file__).parents[3] / "docs" / "performance.json"


@pytest.fixture
def axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    """The panels drawn from the published figures."""
    drawn: list[Figure] = []

    class Kept(Figure):
        def __init__(self, **settings: object):
            super().__init__(**settings)
            drawn.append(self)

    monkeypatch.setattr(scaling, "Figure", Kept)
    assert scaling.draw(json.loads(PUBLISHED.read_text()), str(tmp_path / "cost.png"))
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    return drawn[0].axes


def test_batch_images_width_and_runs_have_an_axis_each(axes: list) -> None:
    assert [ax.get_xlabel() for ax in axes] == [
        "images per batch (log)", "training images (log)", "channels of the first stage (log)",
        "runs in the matrix (log)",
    ]  # fmt: skip
    sizes = [[tick.get_text() for tick in ax.get_xticklabels()] for ax in axes]
    assert sizes[:2] == [["64", "128", "256", "512"], ["1,024", "2,048", "4,096"]]
    assert [len(ax.get_lines()) for ax in axes] == [1, 1, 1, 3]


def test_seconds_of_epochs_are_equally_long_in_all_panels_and_hold_all_points(axes: list) -> None:
    assert len({ax.get_ylim() for ax in axes[:3]}) == 1
    for ax in axes:
        low, high = ax.get_ylim()
        assert all(low <= value <= high for line in ax.get_lines() for value in line.get_ydata())


def test_without_growth_there_is_no_picture(tmp_path: Path) -> None:
    rows = [{"part": "start", "name": "make help", "milliseconds": 4.0}]
    assert not scaling.draw({"rows": rows}, str(tmp_path / "cost.png"))
    assert not list(tmp_path.iterdir())
