"""The picture of a recording."""

from __future__ import annotations

from lib.plots.recording import spans
from tests.helpers.gpu_recordings import sample


def test_phases_become_stretches_that_join() -> None:
    records = [sample(0.0, "startup"), sample(1.0, "train"), sample(2.0, "train"), sample(3.0, None), sample(4.0)]
    assert spans(records) == [("startup", 0.0, 1.0), ("train", 1.0, 3.0), ("train", 4.0, 4.0)]
