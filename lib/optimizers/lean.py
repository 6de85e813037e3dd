"""Weights that train without moments: what AdamWPrune's lean mode does to one weight tensor until its ramp ends.

As many weights as will survive hold moments (see ``compact``; here the mask says which). The others are dense all the
same. Each takes gradient steps scaled by one second moment for its whole row, the weights of one output, which is all
that is stored for them; where an output has one weight only, as in a vector, the whole tensor is one row. A pruned
weight is told from a living one that happens to be zero by its sign: it is -0.0 until the ramp ends, which equals 0 and
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
from . import memory_format, sparse_scores, sparse_state, sparse_step
from .sparse_scores import Scores
from .sparse_state import State


def start(weight: Tensor, state: State) -> None:
    """The rows' second moments before the first step. A sum of squares needs the range of float32."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    weight.detach().add_(0.0)  # no -0.0 to begin with
    state["row_avg_sq"] = torch.zeros(number_of_rows(weight), dtype=dtype, device=weight.device)


def number_of_rows(weight: Tensor) -> int:
    """How many rows a tensor has: one an output, or a single one where that would be one a weight."""
    outputs = weight.shape[0]
    return outputs if weight.numel() > outputs else 1


def start_late(weight: Tensor, state: State, fused: bool) -> None:
    """State of a tensor that joins after the first step: all of it holds moments until the next update."""
    sparse_state.start_sparse(state, weight, *sparse_state.full_mask(weight), fused)
    start(weight, state)


def start_from_dense(weight: Tensor, state: State) -> None:
    """State of a tensor that has been trained densely, until now kept out of pruning; it joins as one that is late."""
    for name in memory_format.MOMENTS:
        state[name] = masks.flat(state[name])
    sparse_state.set_mask(state, weight, *sparse_state.full_mask(weight))
    start(weight, state)
    squares = state["exp_avg_sq"].view(number_of_rows(weight), -1)
    state["row_avg_sq"] = squares.mean(1, dtype=state["row_avg_sq"].dtype)


def start_again(weight: Tensor, state: State) -> None:
    """State of a tensor whose ramp had ended and is to be gone on with: what is pruned gets its sign back."""
    prune(weight.detach(), state["mask"], last=False)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    mean = state["exp_avg_sq"].mean(dtype=dtype)  # of the layer: nothing lives without moments yet
    state["row_avg_sq"] = mean.repeat(number_of_rows(weight))


def is_pruned(part: Tensor) -> Tensor:
    """Which of these weights have been pruned, before the ramp has ended."""
    return (part == 0).logical_and_(part.signbit())


def survivors(weight: Tensor) -> int:
    """How many weights have not been pruned yet."""
    vector = masks.flat(weight.detach())
    size = vector.numel()
    return size - sum(int(is_pruned(vector[start:stop]).sum()) for start, stop in masks.slices(size))


def prune(weight: Tensor, alive: Tensor, last: bool) -> None:
    """Set the weights whose bit is 0 to zero: to -0.0 but for the ``last`` time."""
    if last:
        masks.zero_pruned(weight, alive)
        return
    vector = masks.flat(weight)
    for start, stop in masks.slices(vector.numel()):
        vector[start:stop].masked_fill_(masks.unpack(alive, start, stop).logical_not_(), -0.0)


def reach(betas: tuple[float, float], steps: int) -> float:
    """How far Adam's step number ``steps`` can take a weight at most, in units of the learning rate.

    Whatever the gradients were, by Cauchy and Schwarz::

        |m_hat| / sqrt(v_hat) <= sqrt(sum a_i^2 / b_i)     a_i, b_i: the shares of gradient i in m_hat and in v_hat

    With the usual betas this is 1 at first, 2.2 after 100 steps and 7.3 in the end. Infinite if beta2 <= beta1^2.
    """
    beta1, beta2 = map(float, betas)
    if beta2 <= beta1**2:
        return math.inf
    ratio = beta1**2 / beta2
    squares = (1 - ratio**steps) / (1 - ratio) * (1 - beta2**steps) / (1 - beta2)
    return (1 - beta1) / (1 - beta1**steps) * math.sqrt(squares)


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any], steps: int) -> None:
    """AdamW's update of the weights that hold moments, and steps of the others, in place::

        u <- beta2 u + (1 - beta2) mean(g^2)     over a row
        w <- w - lr * weight_decay * w - lr * clip(g / (sqrt(u / (1 - beta2^t)) + eps))

    The gradients of a row differ by orders of magnitude, and the largest would throw their weights far off in the first
    steps of a training. Clipped, none goes further than Adam's own step could take it: see ``reach``.

    With ``fused`` compiled code takes both in one go, where it can be built. On a GPU one follows the other.

    Args:
        tensors: prunable weights, each with its state.
        group: the parameter group with its settings.
        steps: the optimizer's steps, this one included.
    """
    rate = float(group["lr"])
    decay, most = rate * group["weight_decay"], rate * reach(group["betas"], steps) if rate else 0.0
    compiled: list[cpu.Lean] = []
    on_gpus: dict[torch.device, list[tuple[Tensor, Tensor, Tensor, Tensor]]] = {}
    pairs = [(masks.flat(weight.detach()), masks.flat(sparse_state.gradient(weight))) for weight, _ in tensors]
    states = [state for _, state in tensors]
    at_once = [bool(group["fused"]) and _is_here(*pair, state) for pair, state in zip(pairs, states, strict=True)]
    sparse_step.step([tensor for tensor, both in zip(tensors, at_once, strict=True) if not both], group)
    for state, both in zip(states, at_once, strict=True):
        if both:
            state["step"] += 1
    scales = _scales([slope for _, slope in pairs], states, group)
    for (weight, state), (vector, slope), scale, both in zip(tensors, pairs, scales, at_once, strict=True):
        if both:
            held = sparse_step.compiled_slices(vector, slope, weight, state, group)
            compiled += _compiled_slices(held, vector, scale, decay, most)
        elif group["fused"] and sparse_step.on_gpu(vector, slope, scale):
            on_gpus.setdefault(vector.device, []).append((vector, slope, state["mask"], scale))
        else:
            _step(vector, slope, scale, state["mask"], decay, most)
    if compiled:
        cpu.lean_step(compiled)
    for parts in on_gpus.values():
        sparse_step.triton_step().scaled_step(parts, decay, most)


def _is_here(vector: Tensor, slope: Tensor, state: State) -> bool:
    """Whether compiled code takes this tensor."""
    return all(map(cpu.supports, (vector, slope, state["exp_avg"], state["exp_avg_sq"], state["row_avg_sq"])))


def _scales(slopes: Sequence[Tensor], states: Sequence[State], group: dict[str, Any]) -> Sequence[Tensor]:
    """Take the gradients into the rows' second moments; what each row's gradients are to be multiplied by then."""
    beta2, averages = group["betas"][1], [state["row_avg_sq"] for state in states]
    rows = [slope.view(len(average), -1) for slope, average in zip(slopes, averages, strict=True)]
    squares = [
        torch.linalg.vector_norm(row, dim=1, dtype=average.dtype) for row, average in zip(rows, averages, strict=True)
    ]
    torch._foreach_mul_(squares, squares)
    torch._foreach_mul_(squares, [(1 - beta2) / row.shape[1] for row in rows])
    torch._foreach_mul_(averages, beta2)
    torch._foreach_add_(averages, squares)
    scales = torch._foreach_div(averages, [sparse_scores.correction(beta2, state) for state in states])
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, group["eps"])
    torch._foreach_reciprocal_(scales)
    torch._foreach_mul_(scales, -float(group["lr"]) if group["maximize"] else float(group["lr"]))
    return scales


def _compiled_slices(
    held: Iterator[cpu.Slice], vector: Tensor, scales: Tensor, decay: float, most: float
) -> Iterator[cpu.Lean]:
    length = vector.numel() // scales.numel()
    for part, (start, _) in zip(held, masks.slices(vector.numel()), strict=True):
        yield cpu.Lean(part, scales.data_ptr(), length, start, decay, most)


def _step(vector: Tensor, slope: Tensor, scales: Tensor, bits: Tensor, decay: float, most: float) -> None:
    for start, stop in masks.slices(vector.numel()):
        part = vector[start:stop]
        gone = is_pruned(part)
        others = masks.unpack(bits, start, stop).logical_or_(gone)
        change = (slope[start:stop] * _spread(scales, vector, start, stop)).clamp_(-most, most).add_(part, alpha=decay)
        part.sub_(change.masked_fill_(others, 0.0))
        if part.itemsize < 4:  # where a small negative number can round to -0.0
            part.add_(0.0).masked_fill_(gone, -0.0)


def scores(weight: Tensor, state: State, group: dict[str, Any], exponent: float) -> Scores:
    """``|w| * v_hat^exponent`` of all weights, slice by slice; the row's v_hat where a weight has none.

    Pruned weights have -1, so that they come before a living zero.
    """
    correction = sparse_scores.correction(group["betas"][1], state)
    vector, rows = masks.flat(weight.detach()), _second_moments(state, group).float()

    def compiled() -> Iterator[Tensor]:
        powers, length, number = rows.pow(exponent), vector.numel() // rows.numel(), float(correction)
        for start, stop, first, last in sparse_state.bounds(weight, state):
            v, bits = state["exp_avg_sq"][first:last], state["mask"][start // 8 :]
            here = cpu.Rows(powers, length, start)
            yield cpu.fisher_lean(vector[start:stop], v, bits, here, number, sparse_scores.ROOTS[exponent])

    def everywhere() -> Iterator[Tensor]:
        for start, stop, first, last in sparse_state.bounds(weight, state):
            v = _spread(rows, weight, start, stop)
            where = masks.positions(state["mask"], start, stop, last - first)
            v.index_copy_(0, where, state["exp_avg_sq"][first:last].float() / correction)
            part = vector[start:stop]
            yield fisher(part.float(), v, v, exponent).masked_fill_(is_pruned(part), -1.0)

    compiles = all(map(cpu.supports, (weight, state["exp_avg_sq"])))
    fast = group["fused"] and exponent in sparse_scores.ROOTS and compiles
    return compiled if fast else everywhere


def rebuild(weight: Tensor, state: State, bits: Tensor, kept: list[int]) -> None:
    """Carry the moments over to a new mask; a weight that is given moments starts with the second moment of its row."""
    rows = state["row_avg_sq"]
    if not all(map(cpu.supports, (weight, rows, state["exp_avg"], state["exp_avg_sq"]))):
        sparse_state.rebuild(weight, state, bits, kept, lambda start, stop: _spread(rows, weight, start, stop))
        return
    length = weight.numel() // rows.numel()
    for name in ("exp_avg", "exp_avg_sq"):  # one after the other: only one of them exists twice at a time
        old, new, begin = state[name], torch.empty(sum(kept), dtype=rows.dtype, device=rows.device), 0
        for (start, stop, first, last), number in zip(sparse_state.bounds(weight, state), kept, strict=True):
            before, after = (mask[start // 8 :] for mask in (state["mask"], bits))
            fresh = cpu.Rows(rows, length, start) if name == "exp_avg_sq" else None
            cpu.gather_or_init(before, after, old[first:last], fresh, stop - start, new[begin : begin + number])
            begin += number
        state[name] = new
    sparse_state.set_mask(state, weight, bits, kept)


def _second_moments(state: State, group: dict[str, Any]) -> Tensor:
    """``v_hat`` of each row."""
    moments: Tensor = state["row_avg_sq"] / sparse_scores.correction(group["betas"][1], state)
    return moments


def _spread(rows: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
    """Each weight's entry of ``rows``, from place ``start`` to ``stop``; rows lie one after the other in memory."""
    length = weight.numel() // rows.numel()
    first, last = start // length, -(-stop // length)
    if length < masks.SLICE:
        return rows[first:last].repeat_interleave(length)[start - first * length : stop - first * length]
    edges = [start, *range((first + 1) * length, stop, length), stop]  # not whole rows, which may be long
    parts = zip(rows[first:last], pairwise(edges), strict=True)
    return torch.cat([row.expand(end - edge) for row, (edge, end) in parts])
