"""Compiled loops over the bits of masks on the CPU, and Python's side of them. Never required: see ``build.py``.

Where no C compiler is found, or the folder for compiled files cannot be written, ``load()`` gives None and torch's and
numpy's own operations do the work. Positions are the same either way; an AdamW step agrees to rounding, as torch's
fused and unfused AdamW do.
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

from .build import load

LEAST_SHARE = 1 << 17  # weights; waking a thread costs more than it saves for fewer


class Settings(ctypes.Structure):
    """``struct settings`` of step.h."""

    _fields_ = tuple(
        (name, ctypes.c_float) for name in ("decay", "weight1", "beta2", "weight2", "root2", "eps", "step_size", "sign")
    )


class Slice(ctypes.Structure):
    """``struct slice`` of step.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("w", "g", "m", "v", "bits")),
        ("size", ctypes.c_long),
        ("settings", Settings),
    )


class Lean(ctypes.Structure):
    """``struct lean`` of lean.c."""

    _fields_ = (
        ("held", Slice),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("length", "place")),
        *((name, ctypes.c_float) for name in ("decay", "most")),
    )

    @property
    def size(self) -> int:
        """How many weights the slice has."""
        return int(self.held.size)


class Rows(NamedTuple):
    """What each row of a tensor holds for its weights, as a slice of the tensor sees it.

    Attributes:
        values: one float32 a row.
        length: weights in a row, side by side in memory.
        place: where in the tensor the slice starts.
    """

    values: Tensor
    length: int
    place: int


def positions(bits: Tensor, kept: int) -> Tensor | None:
    """Positions (int64) of the ``kept`` ones among the bits (uint8, lowest bit first); None without a compiler."""
    library = load()
    if library is None:
        return None
    # eight places are written for every byte, if it has ones or not
    where = torch.empty(kept + 8, dtype=torch.int64, device=bits.device)
    library.ones(bits.data_ptr(), bits.numel(), where.data_ptr())
    return where[:kept]


def fisher(weight: Tensor, v: Tensor, bits: Tensor | None, correction: float, roots: int) -> Tensor:
    """``|w| * (v / correction)^(2^-roots)`` of a slice's survivors.

    Args:
        weight: flat weights of the slice, float32.
        v: second moments of its survivors, float32.
        bits: its mask; None where all survive.
        correction: ``1 - beta2^t``.
        roots: 1 or 2.
    """
    scores = torch.empty_like(v)
    mask = None if bits is None else bits.data_ptr()
    _library().fisher(weight.data_ptr(), v.data_ptr(), mask, weight.numel(), correction, roots, scores.data_ptr())
    return scores


def fisher_lean(weight: Tensor, v: Tensor, bits: Tensor, powers: Rows, correction: float, roots: int) -> Tensor:
    """The same of all weights of a slice; those without a ``v`` of their own take their row's power of ``v_hat``.

    A pruned weight, which is -0.0, has the score -1.
    """
    scores = torch.empty_like(weight)
    _library().fisher_lean(
        weight.data_ptr(), v.data_ptr(), bits.data_ptr(), powers.values.data_ptr(), powers.length, powers.place,
        weight.numel(), correction, roots, scores.data_ptr(),
    )  # fmt: skip
    return scores


def tally(scores: Tensor, counts: Tensor, upper: int | None = None) -> None:
    """Count the keys of float32 scores (see ``pruning.counting``) into int32 ``counts``: upper halves or lower ones."""
    scores = scores.contiguous()
    _library().tally(scores.data_ptr(), scores.numel(), -1 if upper is None else upper, counts.data_ptr())


def keep(scores: Tensor, key: int, ties: int) -> tuple[Tensor, int]:
    """Which of the float32 scores have a key above ``key``, or that key after the first ``ties`` with it; ties left."""
    scores = scores.contiguous()
    kept = torch.empty_like(scores, dtype=torch.bool)
    left = _library().keep(scores.data_ptr(), scores.numel(), key, ties, kept.data_ptr())
    return kept, left


def carry(old: Tensor | None, new: Tensor, values: Tensor, out: Tensor) -> None:
    """Of the float32 values of a slice's survivors those that survive in the ``new`` bits too, into ``out``.

    ``old`` None: the values are those of all weights. No bit may be new in ``new``.
    """
    mask = None if old is None else old.data_ptr()
    _library().carry(mask, new.data_ptr(), new.numel(), values.data_ptr(), out.data_ptr())


def join(old: Tensor, new: Tensor, values: Tensor, fresh: Rows | None, size: int, out: Tensor) -> None:
    """As ``carry``, for a slice of ``size`` weights, but bits may be new: they take their row's value, or zero."""
    rows = (fresh.values.data_ptr(), fresh.length, fresh.place) if fresh else (None, size, 0)
    _library().join(old.data_ptr(), new.data_ptr(), values.data_ptr(), *rows, size, out.data_ptr())


def narrow(old: Tensor | None, keep: Tensor, size: int) -> Tensor:
    """The bits of a slice of ``size`` weights after only those survivors that ``keep`` (bool) says are kept."""
    new = torch.empty((size + 7) // 8, dtype=torch.uint8, device=keep.device)
    mask = None if old is None else old.data_ptr()
    _library().narrow(mask, keep.data_ptr(), keep.numel(), new.numel(), new.data_ptr())
    return new


def here(tensor: Tensor) -> bool:
    """Whether the compiled functions take this tensor: float32 on the CPU, and a compiler there."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and load() is not None


def step(slices: Sequence[Slice]) -> None:
    """AdamW's update of the survivors of the slices, in place, on as many threads as torch uses."""
    _run(_library().adamw_compact, slices)


def lean_step(slices: Sequence[Lean]) -> None:
    """The same, and gradient steps of the weights that hold no moments."""
    _run(_library().lean_step, slices)


def _run(function: Callable[[Any, int], None], slices: Sequence[Any]) -> None:
    shares = _shares(slices, torch.get_num_threads())
    if len(shares) == 1:
        function(shares[0], len(shares[0]))
    else:  # ctypes gives the interpreter lock away, so that the shares really run side by side
        list(_threads(len(shares)).map(lambda share: function(share, len(share)), shares))


def _library() -> ctypes.CDLL:
    library = load()
    assert library is not None
    return library


def _shares(slices: Sequence[Any], threads: int) -> list[Any]:
    """The slices in order, as arrays with about the same number of weights: one a thread, if there is enough to do."""
    total = sum(part.size for part in slices)
    number = max(min(threads, total // LEAST_SHARE), 1)
    shares: list[list[Any]] = [[] for _ in range(number)]
    seen = 0
    for part in slices:
        shares[min((seen + part.size // 2) * number // total, number - 1)].append(part)
        seen += part.size
    return [(type(share[0]) * len(share))(*share) for share in shares if share]


def settings(step: int, group: dict[str, Any]) -> Settings:
    """The numbers of AdamW's step number ``step`` with a parameter group's settings."""
    beta1, beta2 = group["betas"]
    rate = float(group["lr"])
    return Settings(
        decay=1 - rate * group["weight_decay"],
        weight1=1 - beta1,
        beta2=beta2,
        weight2=1 - beta2,
        root2=(1 - beta2**step) ** 0.5,
        eps=group["eps"],
        step_size=-rate / (1 - beta1**step),
        sign=-1.0 if group["maximize"] else 1.0,
    )


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="adamwprune")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
