"""Tensors that only wrap others (DTensor, as FSDP2 makes them, and their like) have no memory that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.two_tensor import TwoTensor

from lib.kernels import cpu
from lib.optimizers import AdamWPrune
from tests.helpers.small_nets import net

MODES: list[dict[str, Any]] = [{}, {"mode": "lean"}, {"mode": "dynamic", "regrowth": 0.3}]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[dist.DeviceMesh]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_compiled_code_refuses_what_only_wraps_tensors(mesh: dist.DeviceMesh) -> None:
    plain = torch.randn(4, 4)
    assert not cpu.supports(TwoTensor(plain, plain.clone()))
    assert not cpu.supports(distribute_tensor(plain, mesh, [Shard(0)]))
    assert cpu.supports(nn.Parameter(plain)) == cpu.supports(plain)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_pruning_a_sharded_model_is_refused_by_name(mode: dict[str, Any], mesh: dist.DeviceMesh) -> None:
    model = net()
    fully_shard(model, mesh=mesh)
    with pytest.raises(ValueError, match=r"^tensor 0\.weight is a DTensor.*DistributedDataParallel.*prunable=False"):
        AdamWPrune(model.named_parameters(), sparsity=0.5, end_step=5, **mode)


@pytest.mark.parametrize("way", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_sharded_model_that_is_not_pruned_is_trained_as_by_adamw(way: dict[str, bool], mesh: dist.DeviceMesh) -> None:
    models = [net(), net()]
    for model in models:
        fully_shard(model, mesh=mesh)
    group = {"params": list(models[0].parameters()), "prunable": False}
    optimizers = [
        AdamWPrune([group], sparsity=0.5, end_step=2, update_interval=1, **way),
        torch.optim.AdamW(models[1].parameters(), **way),
    ]
    images = torch.randn(8, 13)
    for _ in range(4):
        for model, optimizer in zip(models, optimizers, strict=True):
            model(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert isinstance(ours, DTensor) and isinstance(theirs, DTensor)
        assert torch.equal(ours.to_local(), theirs.to_local())
