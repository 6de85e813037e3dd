"""AdamWPrune in compiled training: torch.compile around step() changes nothing, and a CUDA graph is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from lib.optimizers import AdamWPrune
from tests.helpers.small_nets import assert_equal, net, prune, run, set_gradients

MODES: list[dict[str, Any]] = [{}, {"mode": "lean"}, {"mode": "dynamic", "regrowth": 0.3}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("whole_function", [False, True])
def test_a_compiled_step_prunes_as_an_eager_one(mode: dict[str, Any], whole_function: bool) -> None:
    model = net()
    compiled_model = copy.deepcopy(model)
    eager, compiled = prune(model, **mode), prune(compiled_model, **mode)

    def call_step() -> None:
        compiled.step()

    step = torch.compile(call_step if whole_function else compiled.step, backend="eager")
    run(model, eager, range(25))
    for number in range(25):
        set_gradients(compiled_model, number)
        step()
    assert compiled.steps == 25
    assert compiled.sparsity() == eager.sparsity() == pytest.approx(0.8, abs=0.01)
    assert_equal(model, compiled_model)


def test_a_step_captured_in_a_cuda_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    optimizer = AdamWPrune(model.parameters())
    set_gradients(model, 0)
    for name in ("is_initialized", "is_current_stream_capturing"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    with pytest.raises(RuntimeError, match="CUDA graph"):
        optimizer.step()
    assert optimizer.steps == 0
