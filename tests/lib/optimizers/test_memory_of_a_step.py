"""Temporary memory of steps and mask updates, counted on the allocator's events."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lib.optimizers.adamwprune import AdamWPrune


def peak_of(call) -> int:
    """Bytes that a call held at most beyond what it found, from the profiler's record of allocations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize("mode", ["gradual", "lean"])
def test_temporaries_stay_below_one_largest_layer(mode: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(512, 512, 3, bias=False) for _ in range(3)]  # ResNet-18's largest
    weights = [layer.weight for layer in layers]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = AdamWPrune(weights, sparsity=0.7, end_step=9, update_interval=3, foreach=False, mode=mode)
    largest = 4 * weights[0].numel()
    optimizer.step()
    peaks = [peak_of(optimizer.step) for _ in range(11)]  # updates at steps 3, 6 and 9, compact steps between
    assert optimizer.sparsity() > 0.69
    # dense steps before the first update are torch's own; an update also holds the new moments beside the old ones
    assert max(peaks[2:]) < largest, [round(peak / largest, 2) for peak in peaks]
