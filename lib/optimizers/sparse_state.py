"""Hold Adam's moments for some weights of a tensor only: what AdamWPrune keeps for one pruned tensor.

A pruned tensor's state holds ``mask`` (one bit a weight, in memory order), ``exp_avg`` and ``exp_avg_sq`` (one value
for each set bit, in the same order), ``step``, ``kept`` (set bits per slice, so that a GPU need not be asked) and
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
InitialSquares = Callable[[int, int], Tensor]  # second moments to start with, for the weights between two positions


def init_sparse(state: State, weight: Tensor, bits: Tensor, kept: list[int], fused: bool) -> None:
    """Fill the state of a tensor of which only the weights in the mask hold moments, before its first step."""
    count = sum(kept)
    state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device if fused else "cpu")
    state["exp_avg"] = torch.zeros(count, dtype=weight.dtype, device=weight.device)
    state["exp_avg_sq"] = torch.zeros(count, dtype=weight.dtype, device=weight.device)
    set_mask(state, weight, bits, kept)


def full_mask(weight: Tensor) -> tuple[Tensor, list[int]]:
    """Return the mask of a tensor of which all weights hold moments, and the number of set bits in each slice."""
    bits = masks.pack(torch.ones(weight.numel(), dtype=torch.bool, device=weight.device))
    return bits, [stop - start for start, stop in masks.slices(weight.numel())]


def set_mask(state: State, weight: Tensor, bits: Tensor, kept: list[int]) -> None:
    """Store a mask and what is known about it: set bits per slice, memory order."""
    state["mask"], state["kept"] = bits, kept
    state["channels_last"] = memory_format.is_channels_last(weight)


def bounds(weight: Tensor, state: State) -> Iterator[tuple[int, int, int, int]]:
    """Yield the bounds of each slice in the weight and, of the weights that hold moments, in the moments."""
    first, kept = 0, kept_per_slice(weight, state) if "mask" in state else None
    for index, (start, stop) in enumerate(masks.slices(weight.numel())):
        last = first + (kept[index] if kept else stop - start)
        yield start, stop, first, last
        first = last


def kept_per_slice(weight: Tensor, state: State) -> list[int]:
    """Return the number of set bits in each slice, counted anew where a loaded state does not hold it."""
    if "kept" not in state:
        state["kept"] = masks.counts(state["mask"], weight.numel()).tolist()
    kept: list[int] = state["kept"]
    return kept


def slice_bits(bits: Tensor | None, start: int, stop: int) -> Tensor | None:
    """Return the bytes of a mask that hold a slice; None where there is no mask yet."""
    return None if bits is None else bits[start // 8 : masks.packed_size(stop)]


def pruned_indices(state: State, start: int, stop: int, kept: int) -> Tensor:
    """Return the positions of a slice's pruned weights; ``kept`` tells their number, so that no GPU is waited for."""
    pruned = masks.unpack(state["mask"], start, stop).logical_not_()
    if pruned.is_cuda:
        return torch.nonzero_static(pruned, size=stop - start - kept).view(-1)
    return pruned.nonzero().view(-1)  # faster on a CPU


def flat_moment(moment: Tensor) -> Tensor:
    """Return a moment as a vector in memory order, dense ones too."""
    return moment if moment.dim() == 1 else masks.flat(moment)


def gradient(weight: Tensor) -> Tensor:
    """Return the gradient in the weight's memory order."""
    grad = weight.grad
    assert grad is not None
    if grad.stride() != weight.stride():
        grad = torch.empty_like(weight).copy_(grad)
    return grad.detach()


def narrow_mask(weight: Tensor, state: State, keep: Iterator[Tensor]) -> Tensor:
    """Return the bits of only those survivors that ``keep`` (booleans per slice of survivors) keeps."""
    packed = []
    for (start, stop, first, last), booleans in zip(bounds(weight, state), keep, strict=True):
        if cpu.supports(weight):
            packed.append(cpu.repack_mask(slice_bits(state.get("mask"), start, stop), booleans, stop - start))
            continue
        if "mask" in state:
            everywhere = torch.zeros(stop - start, dtype=torch.bool, device=weight.device)
            indices = masks.positions(state["mask"], start, stop, last - first)
            booleans = everywhere.index_copy_(0, indices, booleans)
        packed.append(masks.pack(booleans))
    return torch.cat(packed)


def add_to_mask(bits: Tensor, weight: Tensor, state: State, regrow: Iterator[Tensor]) -> None:
    """Set, in place, the bits of those pruned weights that ``regrow`` (booleans per slice of pruned ones) chooses."""
    for (start, stop, first, last), chosen in zip(bounds(weight, state), regrow, strict=True):
        booleans = masks.unpack(bits, start, stop)
        booleans.index_copy_(0, pruned_indices(state, start, stop, last - first), chosen)
        bits[start // 8 : masks.packed_size(stop)] = masks.pack(booleans)


def squared_gradients(weight: Tensor, state: State, beta2: float) -> InitialSquares:
    """Return second moments for weights that are regrown, so that they start with ``v_hat = g^2``."""
    flat_grad = masks.flat(gradient(weight))
    return lambda start, stop: flat_grad[start:stop].square() * (1 - beta2 ** state["step"])


def rebuild(weight: Tensor, state: State, bits: Tensor, kept: list[int], initial: InitialSquares | None) -> None:
    """Carry the moments over to a new mask and free those that it does not keep.

    A weight that the old mask did not keep starts with ``m = 0`` and the second moment that ``initial`` gives; without
    ``initial`` there is no such weight.
    """
    for name in ("exp_avg", "exp_avg_sq"):  # one after the other: only one of them exists twice at a time
        old, new = flat_moment(state[name]), torch.empty(sum(kept), dtype=weight.dtype, device=weight.device)
        begin = 0
        for (start, stop, first, last), count in zip(bounds(weight, state), kept, strict=True):
            moments, out = old[first:last], new[begin : begin + count]
            begin += count
            if initial is None and cpu.supports(moments) and cpu.supports(new):
                before, after = slice_bits(state.get("mask"), start, stop), slice_bits(bits, start, stop)
                assert after is not None
                cpu.gather_kept(before, after, moments, out)
                continue
            if "mask" in state:
                indices = masks.positions(state["mask"], start, stop, last - first)
                dense = torch.zeros(stop - start, dtype=old.dtype, device=old.device)
                if initial is not None and name == "exp_avg_sq":
                    dense += initial(start, stop)
                moments = dense.index_copy_(0, indices, moments)
                del indices  # eight bytes a survivor
            torch.index_select(moments, 0, masks.positions(bits, start, stop, count), out=out)
        state[name] = new
    set_mask(state, weight, bits, kept)
