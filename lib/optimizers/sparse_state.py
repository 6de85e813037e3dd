"""Adam's state for the surviving weights only: what AdamWPrune does to one weight tensor.

A pruned tensor's state holds ``mask`` (one bit a weight, in memory order), ``exp_avg`` and ``exp_avg_sq`` (one value a
survivor, in the same order), ``step``, ``kept`` (survivors per slice, so that a GPU need not be asked) and
``channels_last`` (the memory order). All work goes slice by slice, so that temporaries stay far below one large layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..kernels import cpu
from ..pruning import masks
from . import memory_format

State = dict[str, Any]
Fresh = Callable[[int, int], Tensor]  # second moments of the weights between two places, should they join now


def drop(weight: Tensor, state: State, keeps: Iterator[Tensor]) -> Tensor:
    """New bits: of the survivors only those that ``keeps`` (booleans per slice of survivors) keeps."""
    parts = []
    for (start, stop, first, last), keep in zip(bounds(weight, state), keeps, strict=True):
        if cpu.supports(weight):
            parts.append(cpu.repack_mask(slice_bits(state.get("mask"), start, stop), keep, stop - start))
            continue
        if "mask" in state:
            booleans = torch.zeros(stop - start, dtype=torch.bool, device=weight.device)
            keep = booleans.index_copy_(0, masks.positions(state["mask"], start, stop, last - first), keep)
        parts.append(masks.pack(keep))
    return torch.cat(parts)


def set_bits(bits: Tensor, weight: Tensor, state: State, grown: Iterator[Tensor]) -> None:
    """Set, in place, the bits of those pruned weights that ``grown`` (booleans per slice of pruned ones) chooses."""
    for (start, stop, first, last), chosen in zip(bounds(weight, state), grown, strict=True):
        booleans = masks.unpack(bits, start, stop)
        booleans.index_copy_(0, pruned_indices(state, start, stop, last - first), chosen)
        bits[start // 8 : masks.packed_size(stop)] = masks.pack(booleans)


def regrown(weight: Tensor, state: State, beta2: float) -> Fresh:
    """Pruned weights that come back start with ``v_hat = g^2``."""
    slope = masks.flat(gradient(weight))
    return lambda start, stop: slope[start:stop].square() * (1 - beta2 ** state["step"])


def start_sparse(state: State, weight: Tensor, bits: Tensor, kept: list[int], fused: bool) -> None:
    """State of a tensor of which only some weights hold moments from the first step on."""
    number = sum(kept)
    state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device if fused else "cpu")
    state["exp_avg"] = torch.zeros(number, dtype=weight.dtype, device=weight.device)
    state["exp_avg_sq"] = torch.zeros(number, dtype=weight.dtype, device=weight.device)
    set_mask(state, weight, bits, kept)


def full_mask(weight: Tensor) -> tuple[Tensor, list[int]]:
    """Bits of a tensor of which all weights hold moments, and their number in each slice."""
    bits = masks.pack(torch.ones(weight.numel(), dtype=torch.bool, device=weight.device))
    return bits, [last - first for first, last in masks.slices(weight.numel())]


def rebuild(weight: Tensor, state: State, bits: Tensor, kept: list[int], fresh: Fresh | None) -> None:
    """Carry the moments over to a new mask and free those that it does not keep.

    A weight that the old mask did not keep starts with ``m = 0`` and the second moment that ``fresh`` gives; without
    ``fresh`` there is no such weight.
    """
    for name in ("exp_avg", "exp_avg_sq"):  # one after the other: only one of them exists twice at a time
        old, new = flat_moment(state[name]), torch.empty(sum(kept), dtype=weight.dtype, device=weight.device)
        begin = 0
        for (start, stop, first, last), number in zip(bounds(weight, state), kept, strict=True):
            dense = old[first:last]
            if fresh is None and cpu.supports(dense) and cpu.supports(new):
                before, after = slice_bits(state.get("mask"), start, stop), slice_bits(bits, start, stop)
                assert after is not None
                cpu.gather_kept(before, after, dense, new[begin : begin + number])
                begin += number
                continue
            if "mask" in state:
                where = masks.positions(state["mask"], start, stop, last - first)
                joined = torch.zeros(stop - start, dtype=old.dtype, device=old.device)
                if fresh is not None and name == "exp_avg_sq":
                    joined += fresh(start, stop)
                dense = joined.index_copy_(0, where, dense)
                del where  # eight bytes a survivor
            survivors = masks.positions(bits, start, stop, number)
            torch.index_select(dense, 0, survivors, out=new[begin : begin + number])
            begin += number
        state[name] = new
    set_mask(state, weight, bits, kept)


def bounds(weight: Tensor, state: State) -> Iterator[tuple[int, int, int, int]]:
    """Bounds of each slice in the weight and, of its survivors, in the moments."""
    first = 0
    for index, (start, stop) in enumerate(masks.slices(weight.numel())):
        last = first + (state["kept"][index] if "mask" in state else stop - start)
        yield start, stop, first, last
        first = last


def slice_bits(bits: Tensor | None, start: int, stop: int) -> Tensor | None:
    """The bytes of a mask that hold a slice; None where there is no mask yet."""
    return None if bits is None else bits[start // 8 : masks.packed_size(stop)]


def set_mask(state: State, weight: Tensor, bits: Tensor, kept: list[int]) -> None:
    """Take up a mask and what is told of it: survivors per slice, memory order."""
    state["mask"], state["kept"] = bits, kept
    state["channels_last"] = memory_format.is_channels_last(weight)


def pruned_indices(state: State, start: int, stop: int, kept: int) -> Tensor:
    """Positions of the pruned weights of a slice, of which so many are kept, so that a GPU need not be waited for."""
    pruned = masks.unpack(state["mask"], start, stop).logical_not_()
    if pruned.is_cuda:
        return torch.nonzero_static(pruned, size=stop - start - kept).view(-1)
    return pruned.nonzero().view(-1)  # faster on a CPU


def flat_moment(moment: Tensor) -> Tensor:
    return moment if moment.dim() == 1 else masks.flat(moment)


def gradient(weight: Tensor) -> Tensor:
    """The gradient in the weight's memory order."""
    slope = weight.grad
    assert slope is not None
    if slope.stride() != weight.stride():
        slope = torch.empty_like(weight).copy_(slope)
    return slope.detach()
