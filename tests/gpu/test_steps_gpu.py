"""Training steps on a real GPU: the kernels in use, and nobody waiting. Skipped where there is none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lenet5.train import build_model as lenet5
from lib.config import kconfig
from lib.config.resolve import run_config
from lib.data import loader
from lib.optimizers import sparse_step
from lib.optimizers.adamwprune import AdamWPrune
from lib.pruning.pruner import MaskedPruner
from lib.storage.run_dir import RunDir
from lib.training.trainer import Training
from resnet18.train import build_model as resnet18

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

BUILD = {"lenet5": lenet5, "resnet18": resnet18}


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def after_a_ramp(model: nn.Module, **settings: Any) -> list[torch.Tensor]:
    optimizer = AdamWPrune(
        model.parameters(), lr=0.01, sparsity=0.8, end_step=12, update_interval=3, exponent=0.0, **settings
    )
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mode", ["gradual", "lean"])
def test_the_triton_step_is_used_and_agrees_with_torchs_operations(
    layout: torch.memory_format, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 700, 3), nn.Linear(24, 60))
    model = model.to("cuda", memory_format=layout)
    step = sparse_step.triton_step()
    assert step is not None and step.supports(model[0].weight)
    calls = []
    for name in ("step", "scaled_step"):
        kernel = getattr(step, name)
        monkeypatch.setattr(step, name, lambda *args, kernel=kernel, name=name: (calls.append(name), kernel(*args)))
    kernels = after_a_ramp(copy.deepcopy(model), fused=True, mode=mode)
    assert set(calls) == ({"step", "scaled_step"} if mode == "lean" else {"step"})
    calls.clear()
    plain = after_a_ramp(model, foreach=True, mode=mode)
    assert not calls
    for first, second in zip(kernels, plain, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
        assert torch.equal(first == 0, second == 0)


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize("model", ["lenet5", "resnet18"])
@pytest.mark.parametrize(
    ("optimizer", "method", "settings"),
    [
        ("sgd", "none", {}),
        ("adamw", "movement", {}),
        ("adamwadv", "magnitude", {"pruning_interval": 5}),
        ("adamwspam", "none", {}),
        ("adamwprune", "state", {"pruning_interval": 5}),
        ("adamwprune", "state", {"pruning_interval": 5, "mode": "lean"}),
        ("adamwprune", "state", {"pruning_interval": 5, "mode": "dynamic", "regrowth": 0.1}),
    ],
)
def test_no_step_waits_for_the_gpu(
    tmp_path: Path, model: str, optimizer: str, method: str, settings: dict[str, Any]
) -> None:
    few = {"dataset": "synthetic", "train_images": 4096, "batch_size": 128, "compile": "off", "epochs": 2}
    run = run_config(kconfig.defaults(), model, optimizer, method, 0.9, seed=0)
    run = replace(run, device="cuda", monitor=False, **few, **settings)
    training = Training(run, RunDir(tmp_path), BUILD[model], None, lambda line: None)
    training.model.train()
    checked = 0
    for epoch in range(run.epochs):
        torch.cuda.set_sync_debug_mode("default")  # an epoch begins with the transfer of its order
        for index, (images, labels) in enumerate(loader.batches(training.data, run, epoch)):
            step = epoch * training.steps + index
            warm = step >= 3 and not may_wait(training, step + 1)
            torch.cuda.set_sync_debug_mode("error" if warm else "default")
            training.train_step(images, labels, step)
            checked += warm
    assert checked > run.epochs * training.steps // 3


def may_wait(training: Training, step: int) -> bool:
    """Whether the mask changes right after this step (counted from 1): an update may ask for its numbers."""
    holders = (training.optimizer, training.pruner)
    schedules = [holder.schedule for holder in holders if isinstance(holder, AdamWPrune | MaskedPruner)]
    return any(schedule.is_early_update(step) for schedule in schedules)
