"""Bytes are counted from the birth of a storage to its death."""

from __future__ import annotations

import torch

from lib.memory.tracker import MemoryTracker


def test_the_tracker_follows_births_and_deaths_and_counts_views_once() -> None:
    with MemoryTracker() as tracker:
        tracker.category = "weights"
        a = torch.zeros(100)
        tracker.category = "activations"
        b = a + 1
        c = b.view(10, 10)
        assert dict(tracker.current) == {"weights": 400, "activations": 400}
        d = c * 2
        del b, c
        assert tracker.current["activations"] == 400
        assert sum(tracker.peak.values()) == 1200
        tracker.assign(d, "gradients")
        del d
        assert tracker.current.total() == 400
        tracker.reset_peak()
        assert tracker.peak == {"weights": 400, "activations": 0, "gradients": 0}
        a.add_(1)  # in place: nothing new
        assert tracker.current.total() == 400
