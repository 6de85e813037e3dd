"""Time a training step of ResNet-18 in each number format and memory layout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from resnet18.model import ResNet18
from scripts.benchmarks.interleaved import Events, time_interleaved

BATCH = 128


def measure(device: torch.device, rounds: int) -> Events:
    ways = {
        "fp32": (torch.float32, torch.contiguous_format),
        "fp32, channels_last": (torch.float32, torch.channels_last),
        "bf16": (torch.bfloat16, torch.contiguous_format),
        "bf16, channels_last": (torch.bfloat16, torch.channels_last),
    }
    calls = {name: _step(device, dtype, layout) for name, (dtype, layout) in ways.items()}
    yield from time_interleaved(f"step of ResNet-18, batch {BATCH}", calls, max(rounds // 5, 2))


def _step(device: torch.device, dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], None]:
    model = ResNet18().to(device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(BATCH, 3, 32, 32, device=device).to(memory_format=layout)
    labels = torch.randint(10, (BATCH,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return step
