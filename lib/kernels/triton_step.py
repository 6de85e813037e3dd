"""Update pruned tensors on a GPU by Triton kernels: all tensors of a parameter group in a few launches.

Triton comes with torch's wheels for CUDA and ROCm. It is optional: without it the optimizer uses torch's operations.
The index of a surviving weight among the moments is the number of set bits before it in the mask. It is counted at
every step, which reads an eighth of a byte per weight, so that nothing has to be stored beside the bits.
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
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

BLOCK = 1024  # weights that one program handles
# Rows of the table of addresses that all programs read; it has one column for each tensor. First the addresses of
# weight, gradient and mask, the number of weights and the index of the tensor's first block; then, for the AdamW
# update, the addresses of the moments and the step count, or, for the update of weights without moments, the address of
# the scales and the length of a row.
WEIGHT, GRADIENT, MASK, SIZE, FIRST_BLOCK = (tl.constexpr(row) for row in range(5))
FIRST_MOMENT, SECOND_MOMENT, STEP = (tl.constexpr(row) for row in range(5, 8))
SCALES, ROW_LENGTH = (tl.constexpr(row) for row in range(5, 7))


@triton.jit
def _column(table, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the tensor that this program's block belongs to: the last one that does not begin after it."""
    firsts = tl.load(table + FIRST_BLOCK * columns + tl.arange(0, columns))
    return tl.sum((firsts <= tl.program_id(0)).to(tl.int32), 0) - 1


@triton.jit
def _survivors(table, column, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the positions of the block's weights in their tensor, and 1 for every survivor."""
    field = table + column
    first, size = tl.load(field + FIRST_BLOCK * columns), tl.load(field + SIZE * columns)
    position = (tl.program_id(0) - first) * block + tl.arange(0, block)
    mask = tl.load(field + MASK * columns).to(tl.pointer_type(tl.uint8))
    byte = tl.load(mask + (position >> 3), mask=position < size, other=0).to(tl.int32)
    return position, (byte >> (position & 7).to(tl.int32)) & 1  # the bits beyond the last weight are zero


@triton.jit
def _count(table, counts, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Count the survivors of each block."""
    _position, survives = _survivors(table, _column(table, columns), columns, block)
    tl.store(counts + tl.program_id(0), tl.sum(survives, 0))


@triton.jit
def _update(  # type: ignore[no-untyped-def]
    table, counts, totals, lr, weight_decay, eps, sign, beta1, beta2, one_minus_beta1, one_minus_beta2,
    log2_beta1, log2_beta2, columns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Update the survivors of each block by AdamW; ``totals`` is the inclusive sum of ``counts`` over the blocks.

    1 - beta and log2(beta) are passed in, because float32 has too few digits to compute them from beta. None of them is
    a compile-time constant, so that a schedule that changes beta does not compile the kernel again.
    """
    column = _column(table, columns)
    position, survives = _survivors(table, column, columns, block)
    here = survives == 1
    field = table + column
    first = tl.load(field + FIRST_BLOCK * columns)
    before_tensor = tl.load(totals + first) - tl.load(counts + first)
    before_block = tl.load(totals + tl.program_id(0)) - tl.load(counts + tl.program_id(0))
    index = before_block - before_tensor + tl.cumsum(survives, 0) - survives

    weights = tl.load(field + WEIGHT * columns).to(tl.pointer_type(tl.float32)) + position
    gradients = tl.load(field + GRADIENT * columns).to(tl.pointer_type(tl.float32)) + position
    first_moments = tl.load(field + FIRST_MOMENT * columns).to(tl.pointer_type(tl.float32)) + index
    second_moments = tl.load(field + SECOND_MOMENT * columns).to(tl.pointer_type(tl.float32)) + index
    step = tl.load(tl.load(field + STEP * columns).to(tl.pointer_type(tl.float32))).to(tl.float64)
    bias_correction1 = (1 - tl.exp2(step * log2_beta1)).to(tl.float32)
    sqrt_bias_correction2 = tl.sqrt(1 - tl.exp2(step * log2_beta2)).to(tl.float32)

    w = tl.load(weights, mask=here, other=0.0)
    g = tl.load(gradients, mask=here, other=0.0) * sign
    m = tl.load(first_moments, mask=here, other=0.0)
    v = tl.load(second_moments, mask=here, other=0.0)
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * g * g
    w = w - lr * weight_decay * w
    w = w - lr / bias_correction1 * m / (tl.sqrt(v) / sqrt_bias_correction2 + eps)
    tl.store(weights, w, mask=here)
    tl.store(first_moments, m, mask=here)
    tl.store(second_moments, v, mask=here)


@triton.jit
def _scaled_update(table, decay, max_step, columns: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Update the weights of each block that hold no moments by a gradient step, scaled by the value of their row."""
    column = _column(table, columns)
    position, survives = _survivors(table, column, columns, block)
    field = table + column
    inside = position < tl.load(field + SIZE * columns)
    weights = tl.load(field + WEIGHT * columns).to(tl.pointer_type(tl.float32)) + position
    gradients = tl.load(field + GRADIENT * columns).to(tl.pointer_type(tl.float32)) + position
    row = position // tl.load(field + ROW_LENGTH * columns)
    scales = tl.load(field + SCALES * columns).to(tl.pointer_type(tl.float32)) + row
    w = tl.load(weights, mask=inside, other=0.0)
    here = inside & (survives == 0) & (w.to(tl.int32, bitcast=True) != -2147483648)  # -0.0 is a pruned weight
    g = tl.load(gradients, mask=here, other=0.0)
    step = tl.load(scales, mask=here, other=0.0) * g
    step = tl.where(step > max_step, max_step, tl.where(step < -max_step, -max_step, step))  # NaN stays
    w = w - (step + decay * w)
    tl.store(weights, w, mask=here)


def supports(*tensors: Tensor) -> bool:
    """Return whether the kernels accept these tensors: float32, all on one GPU for which Triton can compile."""
    if any(map(is_traceable_wrapper_subclass, tensors)):  # as DTensor: they have no memory of their own
        return False
    first = tensors[0].device
    return all(t.is_cuda and t.dtype == torch.float32 and t.device == first for t in tensors) and _compiles(first)


@cache
def _compiles(device: torch.device) -> bool:
    """Try the kernels on a weight of one element. Triton needs a C compiler, which may be missing."""
    one = torch.ones(1, dtype=torch.float32, device=device)
    bits = torch.ones(1, dtype=torch.uint8, device=device)
    state = {"exp_avg": one.clone(), "exp_avg_sq": one.clone(), "mask": bits, "step": torch.zeros_like(one[0])}
    settings = {"lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "maximize": False}
    try:
        step([(one, one, state)], settings)
    except Exception:  # whatever a compiler can raise; the optimizer uses torch's operations then
        return False
    return True


def step(tensors: Sequence[tuple[Tensor, Tensor, dict[str, Any]]], group: dict[str, Any]) -> None:
    """Update the survivors of pruned tensors by AdamW, in place, without waiting for the GPU.

    Args:
        tensors: flat weights, flat gradients in the same order, and state (see ``sparse_state``) of each tensor; all
            float32 and on one device, the step counts too.
        group: parameter group with its settings.
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


def scaled_step(tensors: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], decay: float, max_step: float) -> None:
    """Update the weights that hold no moments (see ``lean``) by a gradient step, in place, without waiting for the GPU.

    Args:
        tensors: flat weights, flat gradients, mask, and the factor of the gradients of each row; float32 but the mask.
        decay: ``lr * weight_decay``.
        max_step: largest change of a weight by its gradient.
    """
    table, blocks = _table([(w, g, m, s.data_ptr(), w.numel() // s.numel()) for w, g, m, s in tensors])
    with torch.cuda.device_of(table):  # Triton launches on the current device
        _scaled_update[(blocks,)](table, decay, max_step, table.shape[1], BLOCK)


def _table(tensors: Sequence[tuple[Any, ...]]) -> tuple[Tensor, int]:
    """Return the table of addresses, on the device of the tensors, and the number of blocks.

    Each tensor is given as weight, gradient, mask and the entries of the last rows.
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
