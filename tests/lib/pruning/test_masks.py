from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.pruning import masks


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_bits_come_back_as_packed(kept: list[bool]) -> None:
    booleans = torch.tensor(kept)
    bits = masks.pack(booleans)
    assert bits.numel() == masks.packed_size(len(kept)) == (len(kept) + 7) // 8
    assert torch.equal(masks.unpack(bits, 0, len(kept)), booleans)
    assert masks.count(bits, len(kept)) == sum(kept)
    assert masks.positions(bits, 0, len(kept)).tolist() == [i for i, keep in enumerate(kept) if keep]


def test_slices_cover_a_tensor_larger_than_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "SLICE", 16)
    booleans = torch.rand(53, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = torch.cat([masks.pack(booleans[start:stop]) for start, stop in masks.slices(53)])
    parts = [masks.unpack(bits, start, stop) for start, stop in masks.slices(53)]
    assert torch.equal(torch.cat(parts), booleans)
    assert masks.counts(bits, 53).tolist() == [int(part.sum()) for part in parts]


def test_pruned_entries_become_zero_even_where_they_were_nan() -> None:
    tensor = torch.tensor([[1.0, float("nan")], [float("inf"), 4.0]])
    masks.zero_pruned(tensor, masks.pack(torch.tensor([True, False, False, True])))
    assert tensor.tolist() == [[1.0, 0.0], [0.0, 4.0]]


@given(st.lists(st.tuples(st.floats(width=32), st.booleans()), min_size=1, max_size=70))
def test_a_mask_applied_twice_is_a_mask_applied_once(weights: list[tuple[float, bool]]) -> None:
    tensor, kept = torch.tensor([w for w, _ in weights]), torch.tensor([k for _, k in weights])
    before, bits = tensor.view(torch.int32).clone(), masks.pack(kept)
    for _ in range(2):
        masks.zero_pruned(tensor, bits)
        assert torch.equal(tensor.view(torch.int32), torch.where(kept, before, 0))


def test_channels_last_weights_are_masked_in_their_own_memory_order() -> None:
    weight = torch.arange(1.0, 25.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    kept = torch.zeros(24, dtype=torch.bool)
    kept[1] = True  # second in memory: channel 1 of the first pixel
    masks.zero_pruned(weight, masks.pack(kept))
    assert weight.nonzero().tolist() == [[0, 1, 0, 0]]


def test_a_tensor_with_gaps_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        masks.flat(torch.zeros(4, 4)[:, :2])


def test_a_mask_that_does_not_keep_what_it_should_is_an_error() -> None:
    bits = [masks.pack(torch.tensor([True, False, True])), masks.pack(torch.ones(9, dtype=torch.bool))]
    assert masks.exact_counts(bits, [3, 9], [2, 9]) == [[2], [9]]
    with pytest.raises(AssertionError, match="a mask keeps 9 weights instead of 8"):
        masks.exact_counts(bits, [3, 9], [2, 8])
