"""AdamWPrune under DistributedDataParallel: ranks see different data and must end with the same masks."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing
from torch import distributed, nn

from lib.optimizers.adamwprune import AdamWPrune


def train(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)  # different weights at first, too: DistributedDataParallel sends those of rank 0 around
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)))
    optimizer = AdamWPrune(model.parameters(), lr=0.01, sparsity=0.8, end_step=12, update_interval=3, regrowth=0.2)
    for _ in range(15):
        optimizer.zero_grad()
        model(torch.randn(16, 20)).square().sum().backward()
        optimizer.step()
    masks = [state["mask"] for state in optimizer.state.values() if "mask" in state]
    torch.save([masks, [weight.detach() for weight in model.parameters()]], f"{folder}/{rank}.pt")
    distributed.barrier()  # a rank that leaves first can take the other down
    distributed.destroy_process_group()


def test_ranks_end_with_identical_masks_and_weights(tmp_path: Path) -> None:
    multiprocessing.spawn(train, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(first[0]) == 2
    for part, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(part, other, strict=True))
    zeros = sum(int((weight == 0).sum()) for weight in first[1] if weight.dim() == 2)
    assert zeros == round(0.8 * (600 + 150))
