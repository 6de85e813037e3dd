"""What a trained model needs to predict: memory and speed by batch size, and its size on disk. All of it measured.

Pruned weights are zeros in dense tensors here, so speed and memory are those of the dense model; only the compressed
file is smaller. A saving that would need other kernels or another format is not shown.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run_config import RunConfig
from ..data.dataset import Data
from ..data.transforms import normalise
from ..memory.accounting import storage_bytes
from ..memory.tracker import MemoryTracker

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def inference_test(
    model: nn.Module, data: Data, config: RunConfig, autocast: AbstractContextManager[Any], weights: bytes
) -> dict[str, Any]:
    """The record of a finished run: `batches` as `measure` gives them, and the bytes of the checkpoint.

    `weights` is the checkpoint as stored; `compressed_bytes` is its size after zlib at its usual level 6.
    """
    return {
        "checkpoint_bytes": len(weights),
        "compressed_bytes": len(zlib.compress(weights, 6)),
        "batches": measure(model, data, config, autocast),
    }


@torch.no_grad()
def measure(
    model: nn.Module,
    data: Data,
    config: RunConfig,
    autocast: AbstractContextManager[Any] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 0.5,
) -> list[dict[str, Any]]:
    """Predict test images in batches of each size, eagerly, each size for about so many seconds.

    Gives for each: `batch_size`, `images_per_second` and `latency_ms` (median of the batches), `tensor_peak` (bytes of
    weights, buffers, images and everything alive between them) and on CUDA `allocator_peak` (bytes, the data set and
    whatever else lives on the device not counted). Sizes beyond the number of test images are left out.
    """
    was_training = model.training
    model.eval()
    rows = []
    with autocast or nullcontext():
        for size in batch_sizes:
            if size <= len(data.test_images):
                images = normalise(data.test_images[:size], data)
                model.forward(images)  # the first one chooses algorithms
                times = time_batches(model, images, seconds)
                middle = statistics.median(times)
                row = {"batch_size": size, "images_per_second": size / middle, "latency_ms": 1000 * middle}
                rows.append(row | peaks(model, images))
    model.train(was_training)
    return rows


def time_batches(model: nn.Module, images: Tensor, seconds: float) -> list[float]:
    """Seconds that each of the predictions of one batch took; at least three, and as many as the time allows."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        model.forward(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def peaks(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Most bytes alive during one prediction: counted from the tensors, and on CUDA by the allocator."""
    held = [*model.parameters(), *model.buffers(), images]
    own = storage_bytes(held)
    with MemoryTracker(before=held) as tracker:
        model.forward(images)
    found = {"tensor_peak": own + sum(tracker.peak.values())}
    if images.is_cuda:
        others = torch.cuda.memory_allocated() - own
        torch.cuda.reset_peak_memory_stats()
        model.forward(images)
        found["allocator_peak"] = torch.cuda.max_memory_allocated() - others
    return found
