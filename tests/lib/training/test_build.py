"""Every run that a preset promises can be started: its settings make an optimizer and a pruner that step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.config.matrix import load_matrix
from lib.optimizers import AdamWPrune
from lib.pruning.pruner import MaskedPruner
from lib.storage.project import ROOT
from lib.training.build import build_optimizer, build_pruner, schedule_of

PRESETS = sorted(path.name for path in (ROOT / "defconfigs").iterdir())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_of_a_preset_steps_and_prunes(preset: str) -> None:
    _, runs = load_matrix(ROOT, ROOT / "defconfigs" / preset)
    for run in runs:
        if run.seed != runs[0].seed:
            continue
        config = replace(run, pruning_start=0.0, pruning_end=0.5, pruning_interval=1) if run.pruning_start else run
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(4, 40, 3), nn.Flatten(), nn.Linear(40, 100), nn.Linear(100, 10))
        optimizer = build_optimizer(config, model, total_steps=6)
        pruner = build_pruner(config, model, optimizer, total_steps=6)
        for _ in range(6):
            model(torch.randn(5, 4, 3, 3)).square().mean().backward()
            pruner.before_step()
            optimizer.step()
            pruner.after_step()
            optimizer.zero_grad()
        wanted = config.target_sparsity if config.pruning_method != "none" else 0.0
        assert pruner.sparsity() == pytest.approx(wanted, abs=1e-3), run.run_id


@pytest.mark.parametrize("preset", ["lenet5-adamwprune", "resnet18-state-pruning-compare"])
def test_optimizer_and_pruner_follow_the_schedule_of_the_run(preset: str) -> None:
    _, runs = load_matrix(ROOT, ROOT / "defconfigs" / preset)
    for run in runs:
        model = nn.Sequential(nn.Conv2d(4, 40, 3), nn.Flatten(), nn.Linear(40, 100), nn.Linear(100, 10))
        optimizer = build_optimizer(run, model, total_steps=100_000)
        pruner = build_pruner(run, model, optimizer, total_steps=100_000)
        prunes = optimizer if isinstance(optimizer, AdamWPrune) else pruner
        assert isinstance(prunes, AdamWPrune | MaskedPruner)
        assert prunes.schedule == schedule_of(run, total_steps=100_000)
        assert prunes.schedule.final == run.target_sparsity
