"""What AdamWPrune asks of a GPU: on fake tensors, which have no data, every question for a number is an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lib.kernels.host import use
from lib.memory_estimate.fake_run import FakeHost
from lib.optimizers import sparse_step
from lib.optimizers.adamwprune import AdamWPrune

SHAPES = ((600, 600), (16, 8, 3, 3), (16,))  # the first has two slices


@pytest.mark.parametrize(
    "mode",
    [{}, {"mode": "lean"}, {"mode": "dynamic"}, {"mode": "dynamic", "regrowth": 0.3}, {"regrowth": 0.3}],
    ids=str,
)
def test_a_gpu_is_asked_for_counts_alone_and_once_for_all_tensors(
    mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``FakeHost`` answers for what is asked once an update; whatever else were asked has no answer."""
    monkeypatch.setattr(sparse_step, "triton_step", lambda: None)
    with use(FakeHost()), FakeTensorMode():
        weights = [nn.Parameter(torch.empty(shape, device="cuda")) for shape in SHAPES]
        optimizer = AdamWPrune(weights, sparsity=0.8, end_step=8, update_interval=2, fused=True, **mode)
        for _ in range(10):
            for weight in weights:
                weight.grad = torch.empty_like(weight)
            optimizer.step()
        assert optimizer.sparsity() == pytest.approx(0.8, abs=1e-4)
        held = optimizer.state[weights[0]]
        assert all(held[name].device.type == "cuda" for name in ("mask", "exp_avg", "exp_avg_sq"))
