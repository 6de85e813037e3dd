"""Each optimizer does what its plain twin does, over random shapes, settings, schedules and gradients.

In float64 the two differ by rounding alone, so that a choice of weights never hangs on it. In float32, where compiled
code runs, examples are left out in which the twin itself chooses differently in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lib import AdamWPrune, AdamWSpam, CubicSchedule, MovementPruner
from tests.reference.adamwprune_gradual import CRITERIA, Gradual
from tests.reference.adamwprune_lean import Lean
from tests.reference.adamwprune_regrowth import Regrowing
from tests.reference.adamwspam import Spam
from tests.reference.movement import Movement
from tests.reference.schedule import Ramp

RANKINGS = ("global", "layer_adaptive", "uniform", "erk")
few = settings(max_examples=20, deadline=None, derandomize=True)

side = st.integers(1, 9)
matrices = st.one_of(st.tuples(side, side), st.tuples(side, side, st.integers(1, 3), st.integers(1, 3)))
vectors = st.tuples(side)
seeds = st.integers(0, 1 << 30)
densities = st.sampled_from([0.0, 0.01, 0.2])


@st.composite
def ramps(draw: st.DrawFn) -> Ramp:
    start = draw(st.integers(0, 6))
    return Ramp(draw(st.floats(0.05, 0.95)), start, start + draw(st.integers(1, 10)), draw(st.integers(1, 5)))


adam = {
    "lr": st.floats(1e-3, 1e-1),
    "betas": st.tuples(st.floats(0.0, 0.95), st.floats(0.95, 0.999)),
    "eps": st.sampled_from([1e-8, 1e-3]),
    "weight_decay": st.sampled_from([0.0, 0.1]),
}
ranked = adam | {
    "exponent": st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    "ranking": st.sampled_from(RANKINGS),
    "min_density": densities,
}
gradual = st.fixed_dictionaries(ranked | {"criterion": st.sampled_from(sorted(CRITERIA))})
lean = st.fixed_dictionaries(ranked)


def random_tensors(shapes: list[tuple[int, ...]], seed: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def gradients_of(shapes: list[tuple[int, ...]], seed: int, steps: int, dtype: torch.dtype) -> Iterator[list[Tensor]]:
    return (random_tensors(shapes, seed + step, dtype) for step in range(1, steps + 1))


def pruning_optimizer(weights: list[nn.Parameter], ramp: Ramp, **arguments: Any) -> AdamWPrune:
    schedule = {"start_step": ramp.start, "end_step": ramp.end, "update_interval": ramp.interval}
    try:
        groups = [{"params": [weight], "prunable": weight.dim() >= 2} for weight in weights]  # also of one row
        return AdamWPrune(groups, sparsity=ramp.final, **schedule, **arguments)
    except ValueError as error:
        assert "min_density" in str(error)  # layers so small that their floors are too much
        reject()


def assert_agree(weights: list[nn.Parameter], twins: list[Tensor], tolerance: float) -> None:
    for weight, twin in zip(weights, twins, strict=True):
        torch.testing.assert_close(weight.detach(), twin, rtol=tolerance, atol=tolerance)


@few
@given(st.lists(st.one_of(matrices, vectors), min_size=1, max_size=4), ramps(), gradual, seeds)
def test_gradual_mode_is_its_twin(shapes: list[tuple[int, ...]], ramp: Ramp, arguments: dict, seed: int) -> None:
    weights = [nn.Parameter(w) for w in random_tensors(shapes, seed, torch.float64)]
    optimizer = pruning_optimizer(weights, ramp, **arguments)
    twin = Gradual(random_tensors(shapes, seed, torch.float64), ramp, **arguments)
    for step, gradients in enumerate(gradients_of(shapes, seed, ramp.end + 3, torch.float64)):
        twin.settings["lr"] = arguments["lr"] * 0.9**step
        for group in optimizer.param_groups:
            group["lr"] = twin.settings["lr"]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        twin.step(gradients)
        assert_agree(weights, twin.weights, 1e-9)
        for weight, m, v, alive in zip(weights, twin.m, twin.v, twin.alive, strict=True):
            state = optimizer.state[weight]  # moments of the survivors, and of nothing else
            torch.testing.assert_close(state["exp_avg"].view(-1), m[alive], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(state["exp_avg_sq"].view(-1), v[alive], rtol=1e-9, atol=1e-12)


@few
@given(st.lists(matrices, min_size=1, max_size=4), ramps(), lean, seeds)
def test_lean_mode_is_its_twin(shapes: list[tuple[int, ...]], ramp: Ramp, arguments: dict, seed: int) -> None:
    weights = [nn.Parameter(w) for w in random_tensors(shapes, seed, torch.float64)]
    optimizer = pruning_optimizer(weights, ramp, mode="lean", **arguments)
    twin = Lean(random_tensors(shapes, seed, torch.float64), ramp, **arguments)
    for step, gradients in enumerate(gradients_of(shapes, seed, ramp.end + 3, torch.float64)):
        twin.settings["lr"] = arguments["lr"] * 0.9**step
        for group in optimizer.param_groups:
            group["lr"] = twin.settings["lr"]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        twin.step(gradients)
        assert_agree(weights, twin.weights, 1e-4)
        for weight, holds in zip(weights, twin.holds, strict=True):
            assert optimizer.state[weight]["exp_avg"].numel() == int(holds.sum())


@few
@given(st.lists(matrices, min_size=1, max_size=4), ramps(), gradual, st.floats(0.01, 0.5), st.booleans(), seeds)
def test_regrowth_and_dynamic_mode_are_their_twin(
    shapes: list[tuple[int, ...]], ramp: Ramp, arguments: dict, regrowth: float, dynamic: bool, seed: int
) -> None:
    weights = [nn.Parameter(w) for w in random_tensors(shapes, seed, torch.float64)]
    mode = "dynamic" if dynamic else "gradual"
    optimizer = pruning_optimizer(weights, ramp, mode=mode, regrowth=regrowth, **arguments)
    twin = Regrowing(random_tensors(shapes, seed, torch.float64), ramp, regrowth, dynamic, **arguments)
    for gradients in gradients_of(shapes, seed, ramp.end + 3, torch.float64):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        twin.step(gradients)
        assert_agree(weights, twin.weights, 1e-6)
        for weight, alive in zip(weights, twin.alive, strict=True):
            assert optimizer.state[weight]["exp_avg"].numel() == int(alive.sum())


def in_float32(
    twin: type[Gradual] | type[Lean], shapes: list[tuple[int, ...]], ramp: Ramp, seed: int, **arguments: Any
) -> Gradual | Lean | None:
    """A twin after its training in float32; None if it prunes other weights in float64."""
    pruned = []
    for dtype in (torch.float64, torch.float32):
        trained = twin(random_tensors(shapes, seed, dtype), ramp, **arguments)
        for gradients in gradients_of(shapes, seed, ramp.end + 3, dtype):
            trained.step(gradients)
        pruned.append([w == 0 for w in trained.weights])
    same = all(torch.equal(first, second) for first, second in zip(*pruned, strict=True))
    return trained if same else None


@few
@given(st.lists(matrices, min_size=1, max_size=4), ramps(), lean, seeds, st.sampled_from(["gradual", "lean"]))
def test_compiled_steps_end_where_the_twin_does(
    shapes: list[tuple[int, ...]], ramp: Ramp, arguments: dict, seed: int, mode: str
) -> None:
    twin = in_float32({"gradual": Gradual, "lean": Lean}[mode], shapes, ramp, seed, criterion="fisher", **arguments)
    assume(twin is not None)
    weights = [nn.Parameter(w) for w in random_tensors(shapes, seed, torch.float32)]
    optimizer = pruning_optimizer(weights, ramp, mode=mode, fused=True, **arguments)
    for gradients in gradients_of(shapes, seed, ramp.end + 3, torch.float32):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
    assert_agree(weights, twin.weights, 1e-3)
    assert all(torch.equal(weight == 0, w == 0) for weight, w in zip(weights, twin.weights, strict=True))


spam = st.fixed_dictionaries(
    adam
    | {
        "spike_threshold": st.sampled_from([0.0, 1.5, 5000.0]),
        "reset_interval": st.integers(0, 9),
        "reset_warmup": st.integers(0, 12),
    }
)


@few
@given(st.lists(st.one_of(matrices, vectors), min_size=1, max_size=3), spam, seeds)
def test_adamwspam_is_its_twin(shapes: list[tuple[int, ...]], arguments: dict, seed: int) -> None:
    weights = [nn.Parameter(w) for w in random_tensors(shapes, seed, torch.float64)]
    optimizer = AdamWSpam(weights, **arguments)
    twin = Spam(random_tensors(shapes, seed, torch.float64), **arguments)
    for step, gradients in enumerate(gradients_of(shapes, seed, 25, torch.float64)):
        twin.settings["lr"] = arguments["lr"] * 0.9**step
        for group in optimizer.param_groups:
            group["lr"] = twin.settings["lr"]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        twin.step(gradients)
        assert_agree(weights, twin.weights, 1e-9)


@few
@given(
    st.lists(matrices, min_size=1, max_size=4),
    ramps(),
    st.sampled_from(RANKINGS),
    densities,
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 0.1]),
    seeds,
)
def test_movement_pruning_is_its_twin(
    shapes: list[tuple[int, ...]],
    ramp: Ramp,
    ranking: str,
    min_density: float,
    momentum: float,
    weight_decay: float,
    seed: int,
) -> None:
    model = nn.ParameterList(random_tensors(shapes, seed, torch.float64))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum, weight_decay=weight_decay)
    try:
        schedule = CubicSchedule(**asdict(ramp))
        pruner = MovementPruner(model, optimizer, dict(model.named_parameters()), schedule, ranking, min_density)
    except ValueError as error:
        assert "min_density" in str(error)
        reject()
    twin = Movement(random_tensors(shapes, seed, torch.float64), ramp, ranking, min_density)
    for step, gradients in enumerate(gradients_of(shapes, seed, ramp.end + 3, torch.float64)):
        lr = optimizer.param_groups[0]["lr"] = 0.1 * 0.9**step
        for weight, gradient in zip(model, gradients, strict=True):
            weight.grad = gradient.clone()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()
        twin.step(gradients, lr, 0.1, momentum, weight_decay)
        assert_agree(list(model), twin.effective(), 1e-9)
