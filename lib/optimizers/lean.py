"""Train weights without moments: what AdamWPrune's lean mode does to one weight tensor until its ramp ends.

As many weights as will survive hold moments (see ``sparse_state``; here the mask tells which). The others are dense all
the same. Each takes gradient steps scaled by one second moment for its whole row, the weights of one output, which is
all that is stored for them; where an output has one weight only, as in a vector, the whole tensor is one row. A pruned
weight differs from a living one that happens to be zero by its sign: it is -0.0 until the ramp ends, which equals 0 and
costs no memory.

A row's second moment takes in the gradients of its pruned weights too. One that is infinite or no number spoils the row
for good, as it spoils the moments of a surviving weight, and the next update of the mask refuses to rank the layer and
names it (by magnitude, with ``exponent`` 0, it cannot tell). ``GradScaler`` skips such steps.

That a row can share one second moment is the finding of Adam-mini (Zhang et al. 2024, arXiv 2406.16793).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..kernels import cpu
from ..pruning import masks
from ..pruning.criteria import fisher
from . import memory_format, sparse_state, sparse_step
from .sparse_scores import ROOTS, Scores, bias_correction
from .sparse_state import State, bounds


def init_row_moments(weight: Tensor, state: State) -> None:
    """Add the rows' second moments to the state before the first step. A sum of squares needs the range of float32."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    weight.detach().add_(0.0)  # no -0.0 to begin with
    state["row_avg_sq"] = torch.zeros(num_rows(weight), dtype=dtype, device=weight.device)
    state["row_steps"] = 0  # a plain number: a GPU need not be waited for


def num_rows(weight: Tensor) -> int:
    """Return how many rows a tensor has: one for each output, or a single one if that is one for each weight."""
    outputs = weight.shape[0]
    return outputs if weight.numel() > outputs else 1


def init_full(weight: Tensor, state: State, fused: bool, with_rows: bool) -> None:
    """Fill the state of a tensor that joins after the first step: all of it holds moments until the next update."""
    sparse_state.init_sparse(state, weight, *sparse_state.full_mask(weight), fused)
    if with_rows:
        init_row_moments(weight, state)


def init_from_dense(weight: Tensor, state: State) -> None:
    """Convert the state of a tensor that has been trained densely, out of pruning until now; it joins as a late one."""
    for name in memory_format.MOMENTS:
        state[name] = masks.flat(state[name])
    sparse_state.set_mask(state, weight, *sparse_state.full_mask(weight))
    init_row_moments(weight, state)
    squares = state["exp_avg_sq"].view(num_rows(weight), -1)
    state["row_avg_sq"] = squares.mean(1, dtype=state["row_avg_sq"].dtype)
    state["row_steps"] = int(state["step"])


def resume_ramp(weight: Tensor, state: State) -> None:
    """Prepare a tensor whose ramp had ended for another one: what is pruned gets its sign back."""
    prune(weight.detach(), state["mask"], last=False)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    mean = state["exp_avg_sq"].mean(dtype=dtype)  # of the layer: nothing lives without moments yet
    state["row_avg_sq"] = mean.repeat(num_rows(weight))
    state["row_steps"] = int(state["step"])


def is_pruned(values: Tensor) -> Tensor:
    """Return which of these weights have been pruned, before the ramp has ended."""
    return (values == 0).logical_and_(values.signbit())


def num_survivors(weight: Tensor) -> int:
    """Return how many weights have not been pruned yet."""
    flat_weight = masks.flat(weight.detach())
    size = flat_weight.numel()
    return size - sum(int(is_pruned(flat_weight[start:stop]).sum()) for start, stop in masks.slices(size))


def prune(weight: Tensor, bits: Tensor, last: bool) -> None:
    """Set the weights whose bit is 0 to zero: to -0.0 but for the ``last`` time."""
    if last:
        masks.zero_pruned(weight, bits)
        return
    flat_weight = masks.flat(weight)
    for start, stop in masks.slices(flat_weight.numel()):
        flat_weight[start:stop].masked_fill_(masks.unpack(bits, start, stop).logical_not_(), -0.0)


def max_adam_step(betas: tuple[float, float], steps: int) -> float:
    """Return how far Adam's step number ``steps`` can take a weight at most, in units of the learning rate.

    Whatever the gradients were, by Cauchy and Schwarz::

        |m_hat| / sqrt(v_hat) <= sqrt(sum a_i^2 / b_i)     a_i, b_i: weights of gradient i in m_hat and in v_hat

    With the usual betas this is 1 at first, 2.2 after 100 steps and 7.3 in the end. Infinite if beta2 <= beta1^2.
    """
    beta1, beta2 = map(float, betas)
    if beta2 <= beta1**2:
        return math.inf
    ratio = beta1**2 / beta2
    squares = (1 - ratio**steps) / (1 - ratio) * (1 - beta2**steps) / (1 - beta2)
    return (1 - beta1) / (1 - beta1**steps) * math.sqrt(squares)


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any], steps: int) -> None:
    """Take AdamW's step for the weights that hold moments, and scaled gradient steps for the others, in place::

        u <- beta2 u + (1 - beta2) mean(g^2)     over a row
        w <- w - lr * weight_decay * w - lr * clip(g / (sqrt(u / (1 - beta2^t)) + eps))

    The gradients of a row differ by orders of magnitude, and the largest would throw their weights far off in the first
    steps of a training. Clipped, none goes further than Adam's own step could take it: see ``max_adam_step``.

    With ``fused`` compiled code takes both in one go, where it can be built. On a GPU one follows the other.

    Args:
        tensors: prunable weights, each with its state.
        group: the parameter group with its settings.
        steps: the optimizer's steps, this one included; those of a tensor whose state, of an older file, has no count.
    """
    lr = float(group["lr"])
    decay = lr * group["weight_decay"]
    compiled: list[cpu.Lean] = []
    on_gpus: dict[tuple[torch.device, float], list[tuple[Tensor, Tensor, Tensor, Tensor]]] = {}
    pairs = [(masks.flat(weight.detach()), masks.flat(sparse_state.gradient(weight))) for weight, _ in tensors]
    states = [state for _, state in tensors]
    at_once = [bool(group["fused"]) and _supported(*pair, state) for pair, state in zip(pairs, states, strict=True)]
    sparse_step.step([tensor for tensor, both in zip(tensors, at_once, strict=True) if not both], group)
    for state, both in zip(states, at_once, strict=True):
        if both:
            state["step"] += 1
    scales = _scales([flat_grad for _, flat_grad in pairs], states, group)
    for (weight, state), (flat_weight, flat_grad), scale, both in zip(tensors, pairs, scales, at_once, strict=True):
        state["row_steps"] = state.get("row_steps", steps - 1) + 1
        max_step = lr * max_adam_step(group["betas"], state["row_steps"]) if lr else 0.0
        if both:
            with_moments = sparse_step.compiled_slices(flat_weight, flat_grad, weight, state, group)
            compiled += _compiled_slices(with_moments, flat_weight, scale, decay, max_step)
        elif group["fused"] and sparse_step.triton_supports(flat_weight, flat_grad, scale):
            on_gpus.setdefault((flat_weight.device, max_step), []).append(
                (flat_weight, flat_grad, state["mask"], scale)
            )
        else:
            torch_step(flat_weight, flat_grad, scale, state["mask"], decay, max_step)
    if compiled:
        cpu.lean_step(compiled)
    for (_, max_step), on_gpu in on_gpus.items():
        sparse_step.triton_step().scaled_step(on_gpu, decay, max_step)


def _supported(flat_weight: Tensor, flat_grad: Tensor, state: State) -> bool:
    """Return whether compiled code takes this tensor."""
    moments = (state["exp_avg"], state["exp_avg_sq"], state["row_avg_sq"])
    return all(map(cpu.supports, (flat_weight, flat_grad, *moments)))


def _scales(flat_grads: Sequence[Tensor], states: Sequence[State], group: dict[str, Any]) -> Sequence[Tensor]:
    """Update the rows' second moments and return what each row's gradients are to be multiplied by."""
    beta2, averages = group["betas"][1], [state["row_avg_sq"] for state in states]
    rows = [flat_grad.view(len(average), -1) for flat_grad, average in zip(flat_grads, averages, strict=True)]
    squares = [
        torch.linalg.vector_norm(row, dim=1, dtype=average.dtype) for row, average in zip(rows, averages, strict=True)
    ]
    torch._foreach_mul_(squares, squares)
    torch._foreach_mul_(squares, [(1 - beta2) / row.shape[1] for row in rows])
    torch._foreach_mul_(averages, beta2)
    torch._foreach_add_(averages, squares)
    scales = torch._foreach_div(averages, [bias_correction(beta2, state) for state in states])
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, group["eps"])
    torch._foreach_reciprocal_(scales)
    torch._foreach_mul_(scales, -float(group["lr"]) if group["maximize"] else float(group["lr"]))
    return scales


def _compiled_slices(
    with_moments: Iterator[cpu.Slice], flat_weight: Tensor, scales: Tensor, decay: float, max_step: float
) -> Iterator[cpu.Lean]:
    size = flat_weight.numel()
    length = size // scales.numel()
    for part, (start, _) in zip(with_moments, masks.slices(size), strict=True):
        yield cpu.Lean(part, scales.data_ptr(), length, start, decay, max_step)


def torch_step(
    flat_weight: Tensor, flat_grad: Tensor, scales: Tensor, bits: Tensor, decay: float, max_step: float
) -> None:
    """Take the gradient steps of the weights without moments by torch's operations."""
    for start, stop in masks.slices(flat_weight.numel()):
        values = flat_weight[start:stop]
        pruned = is_pruned(values)
        skipped = masks.unpack(bits, start, stop).logical_or_(pruned)
        change = flat_grad[start:stop] * spread_rows(scales, flat_weight, start, stop)
        change.clamp_(-max_step, max_step).add_(values, alpha=decay)
        values.sub_(change.masked_fill_(skipped, 0.0))
        if values.itemsize < 4:  # where a small negative number can round to -0.0
            values.add_(0.0).masked_fill_(pruned, -0.0)


def importance(weight: Tensor, state: State, group: dict[str, Any], exponent: float) -> Scores:
    """Return ``|w| * v_hat^exponent`` of all weights, slice by slice; the row's v_hat where a weight has none.

    Pruned weights have -1, so that they come before a living zero.
    """
    correction = bias_correction(group["betas"][1], state)
    flat_weight, rows = masks.flat(weight.detach()), _row_v_hat(state, group).float()

    def compiled() -> Iterator[Tensor]:
        powers, length, number = rows.pow(exponent), flat_weight.numel() // rows.numel(), float(correction)
        for start, stop, first, last in bounds(weight, state):
            v, bits = state["exp_avg_sq"][first:last], state["mask"][start // 8 :]
            row_powers = cpu.Rows(powers, length, start)
            yield cpu.fisher_lean(flat_weight[start:stop], v, bits, row_powers, number, ROOTS[exponent])

    def by_torch() -> Iterator[Tensor]:
        for start, stop, first, last in bounds(weight, state):
            v = spread_rows(rows, weight, start, stop)
            indices = masks.positions(state["mask"], start, stop, last - first)
            v.index_copy_(0, indices, state["exp_avg_sq"][first:last].float() / correction)
            values = flat_weight[start:stop]
            yield fisher(values.float(), v, v, exponent).masked_fill_(is_pruned(values), -1.0)

    supported = group["fused"] and all(map(cpu.supports, (weight, state["exp_avg_sq"])))
    return compiled if supported and exponent in ROOTS else by_torch


def rebuild(weight: Tensor, state: State, bits: Tensor, kept: list[int]) -> None:
    """Carry the moments over to a new mask; a weight that is given moments starts with its row's second moment."""
    rows = state["row_avg_sq"]
    if not all(map(cpu.supports, (weight, rows, state["exp_avg"], state["exp_avg_sq"]))):
        sparse_state.rebuild(weight, state, bits, kept, lambda start, stop: spread_rows(rows, weight, start, stop))
        return
    length = weight.numel() // rows.numel()
    for name in memory_format.MOMENTS:  # one after the other: only one of them exists twice at a time
        old, new, begin = state[name], torch.empty(sum(kept), dtype=rows.dtype, device=rows.device), 0
        for (start, stop, first, last), count in zip(bounds(weight, state), kept, strict=True):
            before, after = (mask[start // 8 :] for mask in (state["mask"], bits))
            initial = cpu.Rows(rows, length, start) if name == "exp_avg_sq" else None
            cpu.gather_or_init(before, after, old[first:last], initial, stop - start, new[begin : begin + count])
            begin += count
        state[name] = new
    sparse_state.set_mask(state, weight, bits, kept)


def _row_v_hat(state: State, group: dict[str, Any]) -> Tensor:
    """Return the bias-corrected second moment of each row."""
    v_hat: Tensor = state["row_avg_sq"] / bias_correction(group["betas"][1], state)
    return v_hat


def spread_rows(rows: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
    """Return each weight's entry of ``rows``, from position ``start`` to ``stop``; rows are contiguous in memory."""
    length = weight.numel() // rows.numel()
    first, last = start // length, -(-stop // length)
    if length < masks.SLICE:
        return rows[first:last].repeat_interleave(length)[start - first * length : stop - first * length]
    edges = [start, *range((first + 1) * length, stop, length), stop]  # not whole rows, which may be long
    pieces = zip(rows[first:last], pairwise(edges), strict=True)
    return torch.cat([row.expand(end - begin) for row, (begin, end) in pieces])
