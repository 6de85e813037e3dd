"""Apply pruning: masks of one bit per weight.

Bit ``j`` of byte ``b`` stands for weight ``8 b + j`` of the flattened tensor; 1 means kept. Positions and booleans are
derived from the bits when needed, a slice at a time, and never stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..kernels import cpu, host

# Weights handled at a time. Small enough for temporaries to stay in cache and far below one large layer,
# large enough that Python's cost per slice does not show. A multiple of 8, so that slices are whole bytes.
SLICE = 1 << 18


def _byte_table(device: torch.device) -> Tensor:
    """Return the 8 booleans of each of the 256 bytes, read as one int64 each: unpacking becomes a table look-up."""
    bits = torch.arange(256, device=device).unsqueeze(1).bitwise_right_shift(torch.arange(8, device=device))
    return bits.bitwise_and(1).to(torch.bool).view(torch.int64).view(-1)


def _bit_values(device: torch.device) -> Tensor:
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)


def slices(size: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of consecutive slices of a flattened tensor of ``size`` weights."""
    for start in range(0, size, SLICE):
        yield start, min(start + SLICE, size)


def packed_size(size: int) -> int:
    """Return the number of bytes that the mask of ``size`` weights takes."""
    return (size + 7) // 8


def pack(kept: Tensor) -> Tensor:
    """Return the bits of a flat boolean tensor, uint8 of shape (packed_size(n),)."""
    size = kept.numel()
    if size % 8:
        kept = torch.nn.functional.pad(kept, (0, 8 - size % 8))
    return (kept.view(-1, 8).to(torch.uint8) * host.current().table(_bit_values, kept.device)).sum(1, dtype=torch.uint8)


def unpack(bits: Tensor, start: int, stop: int) -> Tensor:
    """Return the booleans of the weights ``start`` to ``stop``; ``start`` must be a multiple of 8."""
    packed = bits[start // 8 : packed_size(stop)]
    table = host.current().table(_byte_table, bits.device)
    return table.index_select(0, packed.int()).view(torch.bool)[: stop - start]


def positions(bits: Tensor, start: int, stop: int, kept: int | None = None) -> Tensor:
    """Return the positions (int64, relative to ``start``) of the kept weights of a slice.

    With their number ``kept`` known beforehand, a GPU need not be waited for.
    """
    packed = bits[start // 8 : packed_size(stop)]
    if host.current().can_read(bits):
        indices = None if kept is None else cpu.bit_positions(packed, kept)
        return _positions_by_numpy(packed.numpy()) if indices is None else indices
    if kept is None:
        return unpack(bits, start, stop).nonzero().view(-1)
    return torch.nonzero_static(unpack(bits, start, stop), size=kept).view(-1)


def _positions_by_numpy(packed: np.ndarray) -> Tensor:
    """Return the positions of the ones by numpy's search, on a CPU several times as fast as torch's.

    At a tenth of ones and below numpy takes a slower path that skips zeros; a tail of ones keeps it on the faster one.
    """
    tail = np.full(packed.size // 8 + 1, 255, dtype=np.uint8)
    booleans = np.unpackbits(np.concatenate([packed, tail]), bitorder="little").view(np.bool_)
    return torch.from_numpy(np.flatnonzero(booleans)[: -8 * tail.size])


def counts(bits: Tensor, size: int) -> Tensor:
    """Return the number of kept weights in each slice, int64 of shape (slices,)."""
    return torch.stack([unpack(bits, start, stop).sum() for start, stop in slices(size)])


def count(bits: Tensor, size: int) -> int:
    """Return the number of kept weights."""
    return int(counts(bits, size).sum())


def exact_counts(bits: Sequence[Tensor], sizes: Sequence[int], expected: Sequence[int]) -> list[list[int]]:
    """Return how many weights each mask keeps in each slice, brought to the host in one transfer.

    Args:
        bits: masks.
        sizes: number of weights of each.
        expected: how many weights each must keep.

    Raises:
        AssertionError: a mask keeps more or fewer.
    """
    on_devices = [counts(mask, size) for mask, size in zip(bits, sizes, strict=True)]
    kept = host.current().mask_counts(on_devices, sizes, expected)
    for per_slice, number in zip(kept, expected, strict=True):
        if sum(per_slice) != number:
            raise AssertionError(f"a mask keeps {sum(per_slice)} weights instead of {number}")
    return kept


def flat(tensor: Tensor) -> Tensor:
    """Return a view of a dense tensor as one vector in the order of its memory (row-major or channels_last).

    Raises:
        ValueError: the tensor's elements do not lie side by side, so that no such view exists.
    """
    if tensor.is_contiguous():
        return tensor.view(-1)
    if is_dense(tensor):
        return tensor.permute(0, 2, 3, 1).view(-1)
    raise ValueError(
        f"prunable tensors must be contiguous or channels_last, got shape {tuple(tensor.shape)} "
        f"with strides {tensor.stride()}"
    )


def is_dense(tensor: Tensor) -> bool:
    """Return whether ``flat`` takes the tensor."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def zero_pruned(tensor: Tensor, bits: Tensor) -> None:
    """Set the pruned entries of a dense tensor to exactly zero (NaN and infinity as well), in place."""
    # as whole numbers times 0 or 1, which takes no branches: a sixteenth of the time of masked_fill_ on a CPU
    vector = flat(tensor).view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
    for start, stop in slices(vector.numel()):
        vector[start:stop].mul_(unpack(bits, start, stop))
