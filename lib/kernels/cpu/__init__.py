"""Call the compiled CPU loops over the bits of masks.

The loops are optional. Without a C compiler or a writable cache folder, ``load()`` returns None and the operations of
torch and numpy do the work. Positions are identical either way; an AdamW step agrees to rounding, as the fused and
unfused AdamW of torch do. Except for ``bit_positions``, call a function only on tensors that ``supports`` accepts.

The loops take as many threads as torch (``torch.set_num_threads``, which the harness calls with the cores that a
container leaves to a run): whoever installs the optimizer alone has one number to set.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import host
from .build import load

MIN_SHARE = 1 << 17  # weights per thread; with fewer, waking the thread costs more than it saves


class Settings(ctypes.Structure):
    """Mirror ``struct settings`` of step.h."""

    _fields_ = (
        ("decay", ctypes.c_float),
        ("one_minus_beta1", ctypes.c_float),
        ("beta2", ctypes.c_float),
        ("one_minus_beta2", ctypes.c_float),
        ("sqrt_bias_correction2", ctypes.c_float),
        ("eps", ctypes.c_float),
        ("step_size", ctypes.c_float),
        ("sign", ctypes.c_float),
    )


class Slice(ctypes.Structure):
    """Mirror ``struct slice`` of step.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("w", "g", "m", "v", "bits")),
        ("size", ctypes.c_long),
        ("settings", Settings),
    )


class Lean(ctypes.Structure):
    """Mirror ``struct lean`` of lean.c."""

    _fields_ = (
        ("held", Slice),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("length", "offset")),
        *((name, ctypes.c_float) for name in ("decay", "max_step")),
    )

    @property
    def size(self) -> int:
        """Return the number of weights in the slice."""
        return int(self.held.size)


class Rows(NamedTuple):
    """Hold one value for each row of a tensor, addressed from a slice of that tensor.

    Attributes:
        values: one float32 for each row.
        length: number of weights in a row; they are adjacent in memory.
        offset: index of the first weight of the slice in the flattened tensor.
    """

    values: Tensor
    length: int
    offset: int


def bit_positions(bits: Tensor, kept: int) -> Tensor | None:
    """Return the indices (int64) of the ``kept`` set bits of ``bits`` (uint8, lowest bit first).

    Returns None if the compiled code is not available.
    """
    library = load()
    if library is None:
        return None
    # the loop writes eight entries for every byte, however many of its bits are set
    indices = torch.empty(kept + 8, dtype=torch.int64, device=bits.device)
    library.bit_positions(bits.data_ptr(), bits.numel(), indices.data_ptr())
    return indices[:kept]


def fisher(weight: Tensor, v: Tensor, bits: Tensor | None, correction: float, roots: int) -> Tensor:
    """Return ``|w| * (v / correction)^(2^-roots)`` of the surviving weights of a slice.

    Args:
        weight: flat weights of the slice, float32.
        v: second moments of the survivors, float32.
        bits: mask of the slice; None if all weights survive.
        correction: ``1 - beta2^t``.
        roots: 1 or 2.
    """
    scores = torch.empty_like(v)
    mask = None if bits is None else bits.data_ptr()
    _library().fisher(weight.data_ptr(), v.data_ptr(), mask, weight.numel(), correction, roots, scores.data_ptr())
    return scores


def fisher_lean(weight: Tensor, v: Tensor, bits: Tensor, powers: Rows, correction: float, roots: int) -> Tensor:
    """Return ``|w| * v_hat^(2^-roots)`` of all weights of a slice, and -1 for pruned ones, which are -0.0.

    Args:
        weight: flat weights of the slice, float32.
        v: second moments of the weights whose bit is set, float32.
        bits: mask of the weights that hold moments.
        powers: ``v_hat^(2^-roots)`` of each row, for the weights that hold no moments.
        correction: ``1 - beta2^t``, for ``v``.
        roots: 1 or 2.
    """
    scores = torch.empty_like(weight)
    _library().fisher_lean(
        weight.data_ptr(), v.data_ptr(), bits.data_ptr(), powers.values.data_ptr(), powers.length, powers.offset,
        weight.numel(), correction, roots, scores.data_ptr(),
    )  # fmt: skip
    return scores


def histogram(scores: Tensor, counts: Tensor, upper: int | None = None) -> None:
    """Add to ``counts`` how often each half key of the float32 scores occurs (keys: see ``pruning.score_histogram``).

    Args:
        scores: float32.
        counts: int32, one entry for each value of half a key; changed in place.
        upper: None counts upper halves; a number counts the lower halves of the keys with that upper half.
    """
    scores = scores.contiguous()
    _library().histogram(scores.data_ptr(), scores.numel(), -1 if upper is None else upper, counts.data_ptr())


def select_kept(scores: Tensor, key: int, ties: int) -> tuple[Tensor, int]:
    """Return which scores (float32) are kept, as booleans, and how many ties are left to prune.

    Scores with a key above ``key`` are kept; of those with that key, all but the first ``ties``.
    """
    scores = scores.contiguous()
    kept = torch.empty_like(scores, dtype=torch.bool)
    left = _library().select_kept(scores.data_ptr(), scores.numel(), key, ties, kept.data_ptr())
    return kept, left


def gather_kept(old: Tensor | None, new: Tensor, values: Tensor, out: Tensor) -> None:
    """Copy into ``out`` the values of those weights whose bit is still set in ``new``.

    Args:
        old: mask that says which weights ``values`` belong to; None if to all of them.
        new: mask with no bit that is not in ``old``.
        values: float32, one for each set bit of ``old``.
        out: float32, one for each set bit of ``new``.
    """
    mask = None if old is None else old.data_ptr()
    _library().gather_kept(mask, new.data_ptr(), new.numel(), values.data_ptr(), out.data_ptr())


def gather_or_init(old: Tensor, new: Tensor, values: Tensor, fresh: Rows | None, size: int, out: Tensor) -> None:
    """Do what ``gather_kept`` does, and initialize newly set bits with the value of their row in ``fresh``, or zero."""
    rows = (fresh.values.data_ptr(), fresh.length, fresh.offset) if fresh else (None, size, 0)
    _library().gather_or_init(old.data_ptr(), new.data_ptr(), values.data_ptr(), *rows, size, out.data_ptr())


def repack_mask(old: Tensor | None, keep: Tensor, size: int) -> Tensor:
    """Return the mask of a slice of ``size`` weights that keeps those set bits of ``old`` whose ``keep`` is true."""
    new = torch.empty((size + 7) // 8, dtype=torch.uint8, device=keep.device)
    mask = None if old is None else old.data_ptr()
    _library().repack_mask(mask, keep.data_ptr(), keep.numel(), new.numel(), new.data_ptr())
    return new


def supports(tensor: Tensor) -> bool:
    """Return whether the compiled functions accept this tensor: float32, on the CPU, and the library is available."""
    return host.current().can_read(tensor) and tensor.dtype == torch.float32 and load() is not None


def step(slices: Sequence[Slice]) -> None:
    """Update the surviving weights of the slices by AdamW, in place, on as many threads as torch uses."""
    _run(_library().adamw_compact, slices)


def lean_step(slices: Sequence[Lean]) -> None:
    """Update the weights with moments by AdamW, and those without by a scaled gradient step, in place."""
    _run(_library().lean_step, slices)


def _run(function: Callable[[Any, int], None], slices: Sequence[Any]) -> None:
    shares = split_work(slices, torch.get_num_threads())
    if len(shares) == 1:
        function(shares[0], len(shares[0]))
    else:  # ctypes releases the interpreter lock, so that the shares run in parallel
        list(_threads(len(shares)).map(lambda share: function(share, len(share)), shares))


def _library() -> ctypes.CDLL:
    library = load()
    assert library is not None
    return library


def split_work(slices: Sequence[Any], threads: int) -> list[Any]:
    """Divide the slices, in order, into one array for each thread with about the same number of weights.

    With fewer than ``MIN_SHARE`` weights for each thread, fewer threads are used.
    """
    total = sum(part.size for part in slices)
    number = max(min(threads, total // MIN_SHARE), 1)
    shares: list[list[Any]] = [[] for _ in range(number)]
    seen = 0
    for part in slices:
        shares[min((seen + part.size // 2) * number // total, number - 1)].append(part)
        seen += part.size
    return [(type(share[0]) * len(share))(*share) for share in shares if share]


def settings(step: int, group: dict[str, Any]) -> Settings:
    """Return the coefficients of step number ``step`` of AdamW with the settings of a parameter group."""
    beta1, beta2 = group["betas"]
    rate = float(group["lr"])
    return Settings(
        decay=1 - rate * group["weight_decay"],
        one_minus_beta1=1 - beta1,
        beta2=beta2,
        one_minus_beta2=1 - beta2,
        sqrt_bias_correction2=(1 - beta2**step) ** 0.5,
        eps=group["eps"],
        step_size=-rate / (1 - beta1**step),
        sign=-1.0 if group["maximize"] else 1.0,
    )


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="adamwprune")


if hasattr(os, "register_at_fork"):  # a forked process does not inherit the threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
