"""Adam's state for the surviving weights only: what AdamWPrune does to one weight tensor.

A pruned tensor's state holds ``mask`` (one bit a weight, in memory order), ``exp_avg`` and ``exp_avg_sq`` (one value a
survivor, in the same order), ``step``, ``kept`` (survivors per slice, so that a GPU need not be asked) and
``channels_last`` (the memory order). All work goes slice by slice, so that temporaries stay far below one large layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..kernels import cpu
from ..pruning import masks
from ..pruning.criteria import Criterion, fisher
from . import memory_format

State = dict[str, Any]
Scores = Callable[[], Iterator[Tensor]]
Fresh = Callable[[int, int], Tensor]  # second moments of the weights between two places, should they join now

ROOTS = {0.5: 1, 0.25: 2}  # exponents that compiled code can take, as square roots one after the other


def adamw_step(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
) -> None:
    """torch's own AdamW update with the settings of a parameter group, in place."""
    adamw(
        weights,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        has_complex=any(map(torch.is_complex, weights)),
        foreach=group["foreach"],
        fused=group["fused"],
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )


def step(tensors: Sequence[tuple[Tensor, State]], group: dict[str, Any]) -> None:
    """AdamW's update of the survivors of pruned tensors, each given with its state, in place.

    With ``fused`` compiled code does this in one go, where it can be built: C on the CPU, Triton on a GPU.
    """
    compiled: list[cpu.Slice] = []
    on_gpus: dict[torch.device, list[tuple[Tensor, Tensor, State]]] = {}
    gradients = []  # kept alive until the step is done
    for weight, state in tensors:
        vector, slope = masks.flat(weight.detach()), masks.flat(gradient(weight))
        held = (vector, slope, state["exp_avg"], state["exp_avg_sq"])
        if group["fused"] and all(map(cpu.supports, held)):
            state["step"] += 1
            gradients.append(slope)
            compiled += compiled_slices(vector, slope, weight, state, group)
        elif group["fused"] and on_gpu(*held, state["step"]):
            on_gpus.setdefault(weight.device, []).append((vector, slope, state))
        else:
            _step(vector, slope, weight, state, group)
    if compiled:
        cpu.step(compiled)
    for parts in on_gpus.values():
        triton_step().step(parts, group)


def on_gpu(*tensors: Tensor) -> bool:
    """Whether the kernels of ``triton_step`` take these."""
    return tensors[0].is_cuda and triton_step() is not None and triton_step().supports(*tensors)


@cache
def triton_step() -> Any:
    """``lib.kernels.triton_step``, imported when a GPU first needs it; None where Triton is missing."""
    try:
        from ..kernels import triton_step as kernels
    except ImportError:
        return None
    return kernels


def compiled_slices(
    vector: Tensor, slope: Tensor, weight: Tensor, state: State, group: dict[str, Any]
) -> Iterator[cpu.Slice]:
    """Addresses of each slice's weights, gradients, moments and bits."""
    settings = cpu.settings(int(state["step"].item()), group)
    w, g, m, v = (t.data_ptr() for t in (vector, slope, state["exp_avg"], state["exp_avg_sq"]))
    bits, item = state["mask"].data_ptr(), vector.element_size()
    for start, stop, first, _ in bounds(weight, state):
        before, survivors = item * start, item * first
        addresses = (w + before, g + before, m + survivors, v + survivors, bits + start // 8)
        yield cpu.Slice(*addresses, stop - start, settings)


def _step(vector: Tensor, slope: Tensor, weight: Tensor, state: State, group: dict[str, Any]) -> None:
    """The same with torch's operations: gather weights and gradients, update, scatter the weights back."""
    for start, stop, first, last in bounds(weight, state):
        where = masks.positions(state["mask"], start, stop, last - first)
        values = vector[start:stop].index_select(0, where)
        adamw_step(
            group,
            [values],
            [slope[start:stop].index_select(0, where)],
            [state["exp_avg"][first:last]],
            [state["exp_avg_sq"][first:last]],
            [state["step"].clone()],  # AdamW counts the step of every list it is given
        )
        vector[start:stop].index_copy_(0, where, values)
    state["step"] += 1


def scores(weight: Tensor, state: State, group: dict[str, Any], criterion: Criterion, exponent: float) -> Scores:
    """Importance of the survivors, slice by slice, from weight and bias-corrected moments."""
    correction1, correction2 = (correction(beta, state) for beta in group["betas"])
    vector = masks.flat(weight.detach())
    roots = ROOTS.get(exponent) if criterion is fisher else None

    def compiled() -> Iterator[Tensor]:
        assert roots is not None
        second_moment, number = _vector(state["exp_avg_sq"]), float(correction2)
        for start, stop, first, last in bounds(weight, state):
            bits = _bits(state.get("mask"), start, stop)
            yield cpu.fisher(vector[start:stop], second_moment[first:last], bits, number, roots)

    def survivors() -> Iterator[Tensor]:
        first_moment, second_moment = _vector(state["exp_avg"]), _vector(state["exp_avg_sq"])
        for start, stop, first, last in bounds(weight, state):
            values = vector[start:stop]
            if "mask" in state:
                values = values.index_select(0, masks.positions(state["mask"], start, stop, last - first))
            m = first_moment[first:last].float() / correction1
            v = second_moment[first:last].float() / correction2
            yield criterion(values.float(), m, v, exponent)

    fast = group["fused"] and cpu.supports(weight) and cpu.supports(state["exp_avg_sq"])
    return compiled if roots and fast else survivors


def correction(beta: float, state: State) -> Tensor:
    """``1 - beta^t``; not zero for a tensor that has moments but has not had a gradient yet."""
    result: Tensor = (1 - beta ** state["step"]).clamp(min=1e-30)
    return result


def magnitudes(weight: Tensor) -> Scores:
    """``|w|`` of all weights, slice by slice."""
    vector = masks.flat(weight.detach())
    return lambda: (vector[start:stop].abs() for start, stop in masks.slices(vector.numel()))


def sensitivities(weight: Tensor) -> Scores:
    """``|w g|`` of all weights, slice by slice, in float32: a product in 16 bits is often 0."""
    vector, slope = masks.flat(weight.detach()), masks.flat(gradient(weight))
    return lambda: ((vector[a:b].float() * slope[a:b].float()).abs_() for a, b in masks.slices(vector.numel()))


def pruned_gradients(weight: Tensor, state: State) -> Scores:
    """``|g|`` of the pruned weights, slice by slice."""
    slope = masks.flat(gradient(weight))

    def absent() -> Iterator[Tensor]:
        for start, stop, first, last in bounds(weight, state):
            yield slope[start:stop].index_select(0, _pruned(state, start, stop, last - first)).abs_()

    return absent


def drop(weight: Tensor, state: State, keeps: Iterator[Tensor]) -> Tensor:
    """New bits: of the survivors only those that ``keeps`` (booleans per slice of survivors) keeps."""
    parts = []
    for (start, stop, first, last), keep in zip(bounds(weight, state), keeps, strict=True):
        if cpu.supports(weight):
            parts.append(cpu.repack_mask(_bits(state.get("mask"), start, stop), keep, stop - start))
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
        booleans.index_copy_(0, _pruned(state, start, stop, last - first), chosen)
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
        old, new = _vector(state[name]), torch.empty(sum(kept), dtype=weight.dtype, device=weight.device)
        begin = 0
        for (start, stop, first, last), number in zip(bounds(weight, state), kept, strict=True):
            dense = old[first:last]
            if fresh is None and cpu.supports(dense) and cpu.supports(new):
                before, after = _bits(state.get("mask"), start, stop), _bits(bits, start, stop)
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


def _bits(bits: Tensor | None, start: int, stop: int) -> Tensor | None:
    """The bytes of a mask that hold a slice; None where there is no mask yet."""
    return None if bits is None else bits[start // 8 : masks.packed_size(stop)]


def set_mask(state: State, weight: Tensor, bits: Tensor, kept: list[int]) -> None:
    """Take up a mask and what is told of it: survivors per slice, memory order."""
    state["mask"], state["kept"] = bits, kept
    state["channels_last"] = memory_format.is_channels_last(weight)


def _pruned(state: State, start: int, stop: int, kept: int) -> Tensor:
    """Positions of the pruned weights of a slice, of which so many are kept, so that a GPU need not be waited for."""
    pruned = masks.unpack(state["mask"], start, stop).logical_not_()
    if pruned.is_cuda:
        return torch.nonzero_static(pruned, size=stop - start - kept).view(-1)
    return pruned.nonzero().view(-1)  # faster on a CPU


def _vector(moment: Tensor) -> Tensor:
    return moment if moment.dim() == 1 else masks.flat(moment)


def gradient(weight: Tensor) -> Tensor:
    """The gradient in the weight's memory order."""
    slope = weight.grad
    assert slope is not None
    if slope.stride() != weight.stride():
        slope = torch.empty_like(weight).copy_(slope)
    return slope.detach()
