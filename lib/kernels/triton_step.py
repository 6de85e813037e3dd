"""Updates of pruned tensors on a GPU: all tensors of a parameter group in a few launches, by Triton.

Triton comes with torch's wheels for CUDA and ROCm. Nothing needs it: ``compact`` takes torch's operations without it.
A survivor's place among the moments is the number of ones before it in the mask. It is counted anew at every step: that
reads an eighth of a byte a weight, and nothing is stored beside the bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # weights that one program handles
# Rows of the table that tells the programs where everything is, one column a tensor: the addresses of weight, gradient
# and mask, the number of weights and the first block of 1,024 weights; then, for AdamW's update, the addresses of the
# moments and the step count, or, for the update of weights without moments, that of the scales and a row's length.
WEIGHT, GRADIENT, MASK, SIZE, FIRST = (tl.constexpr(row) for row in range(5))
FIRST_MOMENT, SECOND_MOMENT, STEP = (tl.constexpr(row) for row in range(5, 8))
SCALES, LENGTH = (tl.constexpr(row) for row in range(5, 7))


@triton.jit
def _column(table, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which tensor this program's block belongs to: the last one that does not begin after it."""
    firsts = tl.load(table + FIRST * columns + tl.arange(0, columns))
    return tl.sum((firsts <= tl.program_id(0)).to(tl.int32), 0) - 1


@triton.jit
def _survivors(table, column, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Positions of the block's weights in their tensor, and 1 for every survivor."""
    field = table + column
    first, size = tl.load(field + FIRST * columns), tl.load(field + SIZE * columns)
    position = (tl.program_id(0) - first) * block + tl.arange(0, block)
    mask = tl.load(field + MASK * columns).to(tl.pointer_type(tl.uint8))
    byte = tl.load(mask + (position >> 3), mask=position < size, other=0).to(tl.int32)
    return position, (byte >> (position & 7).to(tl.int32)) & 1  # the bits beyond the last weight are zero


@triton.jit
def _count(table, counts, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Survivors of each block."""
    _position, survives = _survivors(table, _column(table, columns), columns, block)
    tl.store(counts + tl.program_id(0), tl.sum(survives, 0))


@triton.jit
def _update(  # type: ignore[no-untyped-def]
    table, counts, totals, lr, weight_decay, eps, sign, beta1, beta2, rest1, rest2, log1, log2,
    columns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """AdamW's update of each block's survivors; ``totals`` are the counts summed up to and with each block.

    ``rest`` is 1 - beta, and ``log`` the logarithm of beta to the base 2: float32 would not do to compute them from it.
    None of them is a constant of the kernel, which would be compiled anew for every beta of a schedule.
    """
    column = _column(table, columns)
    position, survives = _survivors(table, column, columns, block)
    here = survives == 1
    field = table + column
    first = tl.load(field + FIRST * columns)
    before_tensor = tl.load(totals + first) - tl.load(counts + first)
    before_block = tl.load(totals + tl.program_id(0)) - tl.load(counts + tl.program_id(0))
    place = before_block - before_tensor + tl.cumsum(survives, 0) - survives

    weights = tl.load(field + WEIGHT * columns).to(tl.pointer_type(tl.float32)) + position
    gradients = tl.load(field + GRADIENT * columns).to(tl.pointer_type(tl.float32)) + position
    first_moments = tl.load(field + FIRST_MOMENT * columns).to(tl.pointer_type(tl.float32)) + place
    second_moments = tl.load(field + SECOND_MOMENT * columns).to(tl.pointer_type(tl.float32)) + place
    step = tl.load(tl.load(field + STEP * columns).to(tl.pointer_type(tl.float32))).to(tl.float64)
    correction1 = (1 - tl.exp2(step * log1)).to(tl.float32)
    root2 = tl.sqrt(1 - tl.exp2(step * log2)).to(tl.float32)

    w = tl.load(weights, mask=here, other=0.0)
    g = tl.load(gradients, mask=here, other=0.0) * sign
    m = tl.load(first_moments, mask=here, other=0.0)
    v = tl.load(second_moments, mask=here, other=0.0)
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    w = w - lr * weight_decay * w
    w = w - lr / correction1 * m / (tl.sqrt(v) / root2 + eps)
    tl.store(weights, w, mask=here)
    tl.store(first_moments, m, mask=here)
    tl.store(second_moments, v, mask=here)


@triton.jit
def _scaled(table, decay, most, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Gradient steps of each block's weights that hold no moments, by the scale of the row that each lies in."""
    column = _column(table, columns)
    position, survives = _survivors(table, column, columns, block)
    field = table + column
    inside = position < tl.load(field + SIZE * columns)
    weights = tl.load(field + WEIGHT * columns).to(tl.pointer_type(tl.float32)) + position
    gradients = tl.load(field + GRADIENT * columns).to(tl.pointer_type(tl.float32)) + position
    row = position // tl.load(field + LENGTH * columns)
    scales = tl.load(field + SCALES * columns).to(tl.pointer_type(tl.float32)) + row
    w = tl.load(weights, mask=inside, other=0.0)
    here = inside & (survives == 0) & (w.to(tl.int32, bitcast=True) != -2147483648)  # -0.0 is a pruned weight
    g = tl.load(gradients, mask=here, other=0.0)
    step = tl.load(scales, mask=here, other=0.0) * g
    step = tl.where(step > most, most, tl.where(step < -most, -most, step))  # NaN stays
    w = w - (step + decay * w)
    tl.store(weights, w, mask=here)


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these: float32, all on one GPU, and Triton can make kernels for it."""
    first = tensors[0].device
    return all(t.is_cuda and t.dtype == torch.float32 and t.device == first for t in tensors) and _runs(first)


@cache
def _runs(device: torch.device) -> bool:
    """Try the kernels on a weight of one element. Triton needs a C compiler when it starts, which may be missing."""
    one = torch.ones(1, dtype=torch.float32, device=device)
    bits = torch.ones(1, dtype=torch.uint8, device=device)
    state = {"exp_avg": one.clone(), "exp_avg_sq": one.clone(), "mask": bits, "step": torch.zeros_like(one[0])}
    settings = {"lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "maximize": False}
    try:
        step([(one, one, state)], settings)
    except Exception:  # whatever a compiler can raise; torch's operations do the work then
        return False
    return True


def step(tensors: Sequence[tuple[Tensor, Tensor, dict[str, Any]]], group: dict[str, Any]) -> None:
    """AdamW's update of the survivors of pruned tensors, in place, without waiting for the GPU.

    Args:
        tensors: flat weights, flat gradients in the same order, and state (see ``compact``) of each tensor; all
            float32 and on one device, the step counts too.
        group: the parameter group with its settings.
    """
    torch._foreach_add_([state["step"] for _, _, state in tensors], 1)
    table, blocks = _table(
        [(w, g, s["mask"], *(s[name].data_ptr() for name in ("exp_avg", "exp_avg_sq", "step"))) for w, g, s in tensors]
    )
    columns = table.shape[1]
    counts = torch.empty(blocks, dtype=torch.int32, device=table.device)
    betas = [float(beta) for beta in group["betas"]]
    numbers = [float(group["lr"]), float(group["weight_decay"]), float(group["eps"])]
    numbers += [-1.0 if group["maximize"] else 1.0, *betas, *(1 - beta for beta in betas)]
    numbers += [math.log2(beta) if beta else -math.inf for beta in betas]
    with torch.cuda.device_of(table):  # Triton launches on the current device
        _count[(blocks,)](table, counts, columns, BLOCK)
        _update[(blocks,)](table, counts, counts.cumsum(0), *numbers, columns, BLOCK)


def scaled_step(tensors: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], decay: float, most: float) -> None:
    """Gradient steps of the weights that hold no moments (see ``lean``), in place, without waiting for the GPU.

    Args:
        tensors: flat weights, flat gradients, masks, and what each row's gradients are multiplied by; float32.
        decay: ``lr * weight_decay``.
        most: how far a gradient moves a weight at most.
    """
    table, blocks = _table([(w, g, m, s.data_ptr(), w.numel() // s.numel()) for w, g, m, s in tensors])
    with torch.cuda.device_of(table):  # Triton launches on the current device
        _scaled[(blocks,)](table, decay, most, table.shape[1], BLOCK)


def _table(tensors: Sequence[tuple[Any, ...]]) -> tuple[Tensor, int]:
    """Addresses and numbers, one column a tensor, on their device; and the number of blocks.

    Each tensor is given as weight, gradient, mask and the entries of its last rows.
    """
    entries, first = [], 0
    for weight, gradient, mask, *last in tensors:
        entries.append([weight.data_ptr(), gradient.data_ptr(), mask.data_ptr(), weight.numel(), first, *last])
        first += -(-weight.numel() // BLOCK)
    unused = triton.next_power_of_2(len(entries)) - len(entries)  # Triton's vectors have a power of two as length
    entries += [[0, 0, 0, 0, first] + [0] * (len(entries[0]) - 5)] * unused
    device = tensors[0][0].device
    columns, pinned = list(zip(*entries, strict=True)), device.type == "cuda"
    table = torch.tensor(columns, dtype=torch.int64, device="cpu", pin_memory=pinned)
    return table.to(device, non_blocking=True), first
