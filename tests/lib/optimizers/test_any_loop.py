"""AdamWPrune in loops that nobody planned: layers freeze and thaw, miss gradients, change memory order, are saved."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning import masks

WAYS: list[dict[str, Any]] = [{}, {"fused": True}, {"foreach": True}]
EVENTS = ["step"] * 6 + ["no gradient", "freeze", "thaw", "save", "copy", "pickle", "order", "way", "join", "rate"]


class Loop:
    """A model and its optimizer, to which things happen; each event comes with a number that says how or to what."""

    def __init__(self, **made: Any) -> None:
        torch.manual_seed(0)
        convolutions = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64, 7), nn.BatchNorm1d(7), nn.Linear(7, 5))
        self.late = nn.Parameter(torch.randn(6, 6))
        self.made = made
        self.optimizer = AdamWPrune(self.model.named_parameters(), **made)
        self.steps = 0

    def weights(self) -> Iterator[nn.Parameter]:
        for group in self.optimizer.param_groups:
            yield from group["params"]

    def meet(self, event: str, number: int) -> None:
        weights = list(self.weights())
        chosen = weights[number % len(weights)]
        if event in ("step", "no gradient"):
            self.step(chosen if event == "no gradient" else None, set_to_none=number % 2 == 0)
        elif event in ("freeze", "thaw"):
            chosen.requires_grad_(event == "thaw")
            chosen.grad = None
        elif event == "save":
            self.save()
        elif event == "copy":
            self.model, self.optimizer = copy.deepcopy((self.model, self.optimizer))
        elif event == "pickle":
            self.model, self.optimizer = pickle.loads(pickle.dumps((self.model, self.optimizer)))
        elif event == "order":
            self.model.to(memory_format=(torch.channels_last, torch.contiguous_format)[number % 2])
        elif event == "join" and len(self.optimizer.param_groups) == 1:
            self.optimizer.add_param_group({"params": [("late", self.late)]})
        for group in self.optimizer.param_groups:
            if event == "way":
                group.update({"fused": None, "foreach": None} | WAYS[number % 3])
            elif event == "rate":
                group["lr"] = 0.001 * number

    def step(self, left_out: nn.Parameter | None, set_to_none: bool) -> None:
        self.steps += 1
        generator = torch.Generator().manual_seed(self.steps)
        self.optimizer.zero_grad(set_to_none=set_to_none)
        for weight in self.weights():
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
        if left_out is not None:
            left_out.grad = None
        self.optimizer.step()

    def save(self) -> None:
        saved = io.BytesIO()
        torch.save(self.optimizer.state_dict(), saved)
        saved.seek(0)
        groups = [
            list(zip(group["param_names"], group["params"], strict=True)) for group in self.optimizer.param_groups
        ]
        self.optimizer = AdamWPrune([{"params": group} for group in groups], **self.made)
        self.optimizer.load_state_dict(torch.load(saved, weights_only=True))

    def check(self) -> None:
        """Masks, moments and weights say the same."""
        for weight in self.weights():
            assert weight.isfinite().all()
            state = self.optimizer.state.get(weight, {})
            if "mask" not in state:
                continue
            alive = masks.unpack(state["mask"], 0, weight.numel())
            assert int(alive.sum()) == state["exp_avg"].numel() == state["exp_avg_sq"].numel() == sum(state["kept"])
            in_order = state["channels_last"] != weight.is_contiguous()  # it follows with the next gradient
            if in_order and "row_avg_sq" not in state:
                assert masks.flat(weight.detach())[~alive].eq(0).all()
        parts = [weight for weight in self.weights() if weight.dim() >= 2 and weight.requires_grad]
        size = sum(weight.numel() for weight in parts)
        zeros = sum(int((weight == 0).sum()) for weight in parts)
        if self.optimizer.regrowth:  # weights that have come back start at zero
            assert self.optimizer.sparsity() * size <= zeros + 1e-6
        elif parts:
            assert self.optimizer.sparsity() == pytest.approx(zeros / size)


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(["gradual", "lean", "dynamic"]),
    ranking=st.sampled_from(["global", "layer_adaptive", "uniform", "erk"]),
    sparsity=st.floats(0.05, 0.9),
    start_step=st.integers(0, 6),
    interval=st.integers(1, 5),
    regrowth=st.sampled_from([0.0, 0.3]),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 20)), min_size=12, max_size=50),
)
def test_whatever_happens_masks_moments_and_weights_stay_together(
    mode: str,
    ranking: str,
    sparsity: float,
    start_step: int,
    interval: int,
    regrowth: float,
    events: list[tuple[str, int]],
) -> None:
    loop = Loop(
        lr=0.01, weight_decay=0.1, sparsity=sparsity, start_step=start_step, end_step=start_step + 14,
        update_interval=interval, mode=mode, ranking=ranking, regrowth=0.0 if mode == "lean" else regrowth,
    )  # fmt: skip
    for event, number in events:
        loop.meet(event, number)
        if event in ("step", "no gradient", "save"):
            loop.check()
