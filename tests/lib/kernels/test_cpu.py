from __future__ import annotations

import copy
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from lib.kernels import cpu
from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import criteria, masks, score_histogram

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
    monkeypatch.setattr(cpu, "MIN_SHARE", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(75, 161), nn.Linear(161, 33)).to(torch.float32)
    settings = {"sparsity": sparsity, "betas": betas, "maximize": maximize, "ranking": "uniform", "exponent": 0.0}
    assert cpu.supports(model[0].weight)
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
    found = cpu.bit_positions(bits, len(ones))
    assert found is not None and found.tolist() == ones.tolist()


def slice_of(size: int, density: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Booleans of survivors and weights of a slice."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator) < density, torch.randn(size, generator=generator)


SIZES = st.one_of(st.integers(1, 80), st.sampled_from([2047, 2048, 2049, 4096, 5000]))
DENSITIES = st.sampled_from([0.02, 0.3, 0.9, 1.0])


@needs_compiler
@given(SIZES, DENSITIES, st.integers(0, 9), st.sampled_from([(1, 0.5), (2, 0.25)]))
def test_compiled_scores_are_the_criterions(size: int, density: float, seed: int, power: tuple[int, float]) -> None:
    alive, weight = slice_of(size, density, seed)
    v = torch.rand(int(alive.sum()))
    expected = criteria.fisher(weight[alive], v, v / 0.3, power[1])
    found = cpu.fisher(weight, v, masks.pack(alive), 0.3, power[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    if density == 1.0:
        assert torch.equal(cpu.fisher(weight, v, None, 0.3, power[0]), found)


@needs_compiler
@given(st.lists(st.floats(width=32), max_size=50), st.integers(0, 9))
def test_compiled_counts_are_torchs(values: list[float], chosen: int) -> None:
    scores = torch.tensor([*values, 0.0, -0.0, 1.5, -1.5])
    keys = score_histogram.keys_of(scores).long()
    halves = (keys >> 16) + score_histogram.NUM_BINS // 2
    counts = torch.zeros(score_histogram.NUM_BINS + 1, dtype=torch.int32)
    cpu.histogram(scores, counts)
    assert torch.equal(counts[:-1].long(), torch.bincount(halves, minlength=score_histogram.NUM_BINS))
    upper = int(halves[chosen % len(halves)])
    counts.zero_()
    cpu.histogram(scores, counts, upper)
    inside = (keys & 0xFFFF)[halves == upper]
    assert torch.equal(counts[:-1].long(), torch.bincount(inside, minlength=score_histogram.NUM_BINS))


@needs_compiler
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50), st.integers(0, 49), st.integers(0, 5))
def test_compiled_choices_are_torchs(values: list[float], chosen: int, ties: int) -> None:
    scores = torch.tensor(values)
    keys = score_histogram.keys_of(scores)
    key = int(keys[chosen % len(keys)])
    rank = (keys == key).cumsum(0)
    kept, left = cpu.select_kept(scores, key, ties)
    assert torch.equal(kept, (keys > key) | ((keys == key) & (rank > ties)))
    assert left == max(ties - int((keys == key).sum()), 0)


@needs_compiler
@given(SIZES, DENSITIES, DENSITIES, st.integers(0, 9))
def test_compiled_mask_updates_keep_the_bits_and_values_that_are_to_be_kept(
    size: int, density: float, share: float, seed: int
) -> None:
    alive, values = slice_of(size, density, seed)
    old = None if density == 1.0 else masks.pack(alive)
    survivors = values[alive]
    keep = torch.rand(len(survivors)) < share
    expected = torch.zeros(size, dtype=torch.bool)
    expected[alive.nonzero().view(-1)[keep]] = True
    new = cpu.repack_mask(old, keep, size)
    assert torch.equal(new, masks.pack(expected))
    out = torch.full((int(keep.sum()) + 1,), 7.0)
    cpu.gather_kept(old, new, survivors, out[:-1])
    assert torch.equal(out[:-1], survivors[keep]) and out[-1] == 7.0


@needs_compiler
@given(SIZES, DENSITIES, DENSITIES, st.integers(1, 700), st.integers(0, 5000), st.sampled_from([(1, 0.5), (2, 0.25)]))
def test_compiled_rows_stand_in_for_weights_without_moments(
    size: int, density: float, share: float, length: int, place: int, power: tuple[int, float]
) -> None:
    alive, weight = slice_of(size, density, seed=place)
    weight[::5] = 0.0
    weight[::7] = -0.0
    generator = torch.Generator().manual_seed(length)
    values, v = torch.rand((place + size) // length + 1, generator=generator), torch.rand(int(alive.sum()))
    rows = values.repeat_interleave(length)[place : place + size]

    everywhere = rows.clone()
    everywhere[alive] = v / 0.3
    expected = criteria.fisher(weight, everywhere, everywhere, power[1])
    expected[::7] = -1.0  # pruned
    powers = cpu.Rows(values.pow(power[1]), length, place)
    found = cpu.fisher_lean(weight, v, masks.pack(alive), powers, 0.3, power[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)

    wanted = torch.rand(size, generator=generator) < share
    for fresh, background in ((cpu.Rows(values, length, place), rows), (None, torch.zeros(size))):
        out = torch.full((int(wanted.sum()) + 1,), 7.0)
        cpu.gather_or_init(masks.pack(alive), masks.pack(wanted), v, fresh, size, out[:-1])
        assert torch.equal(out[:-1], background.clone().masked_scatter_(alive, v)[wanted]) and out[-1] == 7.0


def test_work_is_shared_out_evenly_and_little_work_not_at_all() -> None:
    parts = [cpu.Slice(size=size) for size in (1 << 18,) * 7]
    assert [len(share) for share in cpu.split_work(parts, 3)] == [2, 3, 2]
    assert [len(share) for share in cpu.split_work(parts[:1], 3)] == [1]
    assert [len(share) for share in cpu.split_work([cpu.Slice(size=100)] * 5, 3)] == [5]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_of_another_type_than_the_weight_are_refused_as_torch_refuses_them(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Linear(200, 100, bias=False).to(dtype)
    optimizer = AdamWPrune(model.parameters(), sparsity=0.5, end_step=1, update_interval=1, fused=True)
    model.weight.grad = torch.randn_like(model.weight)
    optimizer.step()
    model.float()
    model.weight.grad = torch.randn_like(model.weight)
    with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
        optimizer.step()


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "MIN_SHARE", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = nn.Linear(600, 1000, bias=False)
    optimizer = AdamWPrune(model.parameters(), sparsity=0.5, end_step=1, update_interval=1, fused=True)
    model.weight.grad = torch.randn_like(model.weight)
    for _ in range(2):
        optimizer.step()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends with another code
        optimizer.step()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@needs_compiler
def test_channels_last_weights_step_in_their_memory_order() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)
    compiled = after_training(copy.deepcopy(model), fused=True, sparsity=0.5)
    plain = after_training(copy.deepcopy(model), fused=False, sparsity=0.5)
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-5, atol=1e-6)


def test_without_a_compiler_torchs_operations_take_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu.load.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        assert cpu.load() is None
        weights = after_training(nn.Linear(20, 20), fused=True, sparsity=0.5)
        assert int((weights[0] == 0).sum()) == 200
    finally:
        cpu.load.cache_clear()
