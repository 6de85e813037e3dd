from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from lib import native
from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler on this machine"
)


def after_training(model: nn.Module, fused: bool, **settings: object) -> list[torch.Tensor]:
    optimizer = AdamWPrune(
        model.parameters(), lr=0.01, weight_decay=0.1, end_step=20, update_interval=3, fused=fused, **settings
    )
    for step in range(30):
        generator = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


@needs_compiler
@pytest.mark.parametrize("sparsity", [0.1, 0.7, 0.95])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.3, 0.95)])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_step_agrees_with_torchs_operations(
    sparsity: float, betas: tuple[float, float], maximize: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "SLICE", 4096)  # two whole blocks of the compiled loop
    monkeypatch.setattr(native, "LEAST_SHARE", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(75, 161), nn.Linear(161, 33)).to(torch.float32)
    settings = {"sparsity": sparsity, "betas": betas, "maximize": maximize, "ranking": "uniform", "exponent": 0.0}
    assert native.can_step(model[0].weight)
    compiled = after_training(copy.deepcopy(model), fused=True, **settings)
    plain = after_training(copy.deepcopy(model), fused=False, **settings)
    for first, second in zip(compiled, plain, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
        assert torch.equal(first == 0, second == 0)


@needs_compiler
@given(st.binary(min_size=1, max_size=600))
@example(bytes(9))
@example(b"\xff" * 9 + bytes(9))
def test_compiled_positions_are_numpys(content: bytes) -> None:
    bits = torch.tensor(list(content), dtype=torch.uint8)
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(content, dtype=np.uint8), bitorder="little"))
    found = native.positions(bits, len(ones))
    assert found is not None and found.tolist() == ones.tolist()


def test_work_is_shared_out_evenly_and_little_work_not_at_all() -> None:
    parts = [native.Slice(size=size) for size in (1 << 18,) * 7]
    assert [len(share) for share in native._shares(parts, 3)] == [2, 3, 2]
    assert [len(share) for share in native._shares(parts[:1], 3)] == [1]
    assert [len(share) for share in native._shares([native.Slice(size=100)] * 5, 3)] == [5]


@needs_compiler
def test_channels_last_weights_step_in_their_memory_order() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)
    compiled = after_training(copy.deepcopy(model), fused=True, sparsity=0.5)
    plain = after_training(copy.deepcopy(model), fused=False, sparsity=0.5)
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-5, atol=1e-6)


def test_without_a_compiler_torchs_operations_take_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    native.load.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        assert native.load() is None
        weights = after_training(nn.Linear(20, 20), fused=True, sparsity=0.5)
        assert int((weights[0] == 0).sum()) == 200
    finally:
        native.load.cache_clear()


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    native.load.cache_clear()
    try:
        assert native.load() is None
    finally:
        native.load.cache_clear()
