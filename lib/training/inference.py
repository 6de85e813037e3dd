"""Measure what a trained model needs to predict: memory and speed by batch size, and its size on disk.

Pruned weights are zeros in dense tensors, so that speed and memory are those of the dense model; only the compressed
file is smaller. Savings that would need sparse kernels or another format are not estimated.
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
MIB = 2**20


def inference_test(
    model: nn.Module, data: Data, config: RunConfig, autocast: AbstractContextManager[Any], weights: bytes
) -> dict[str, Any]:
    """Return the record of a finished run.

    Args:
        model: trained model.
        data: data set; test images are predicted.
        config: configuration of the run.
        autocast: context of the forward passes.
        weights: the checkpoint as stored.

    Returns:
        `checkpoint_bytes`; `compressed_bytes`, the same after zlib at its usual level 6; `batches`, see `measure`; and
        `stopped`, why larger batch sizes are missing, if any are.
    """
    rows, stopped = measure(model, data, config, autocast)
    record: dict[str, Any] = {
        "checkpoint_bytes": len(weights),
        "compressed_bytes": len(zlib.compress(weights, 6)),
        "batches": rows,
    }
    return record | ({"stopped": stopped} if stopped else {})


@torch.no_grad()
def measure(
    model: nn.Module,
    data: Data,
    config: RunConfig,
    autocast: AbstractContextManager[Any] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 0.5,
) -> tuple[list[dict[str, Any]], str | None]:
    """Predict test images in batches of each size, eagerly, each size for about `seconds`.

    Returns a row for each size, and why it stopped before the last size, or None. A row has `batch_size`,
    `images_per_second` and `latency_ms` (median of the batches), `tensor_peak` (bytes of weights, buffers, images and
    everything alive between them) and on CUDA `allocator_peak` (bytes, without the data set and other tensors on the
    device).
    """
    was_training = model.training
    model.eval()
    rows: list[dict[str, Any]] = []
    stopped = None
    try:
        with autocast or nullcontext():
            for size in batch_sizes:
                if size > len(data.test_images):
                    stopped = f"stopped before batch size {size}: the test set has {len(data.test_images)} images"
                    break
                rows.append(measure_batch(model, normalise(data.test_images[:size], data), seconds))
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        stopped = f"stopped at batch size {size}: out of memory"
    model.train(was_training)
    return rows, stopped


def measure_batch(model: nn.Module, images: Tensor, seconds: float) -> dict[str, Any]:
    """Measure one batch size; see `measure`."""
    model.forward(images)  # the first one chooses algorithms
    median = statistics.median(time_batches(model, images, seconds))
    row = {"batch_size": len(images), "images_per_second": len(images) / median, "latency_ms": 1000 * median}
    return row | memory_peaks(model, images)


def time_batches(model: nn.Module, images: Tensor, seconds: float) -> list[float]:
    """Predict one batch at least three times, and as often as the time allows; return the seconds of each."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        model.forward(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def memory_peaks(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Return the peak of one prediction in bytes: counted from the tensors, and on CUDA by the allocator."""
    existing = [*model.parameters(), *model.buffers(), images]
    own = storage_bytes(existing)
    with MemoryTracker(before=existing) as tracker:
        model.forward(images)
    peaks = {"tensor_peak": own + sum(tracker.peak.values())}
    if images.is_cuda:
        others = torch.cuda.memory_allocated() - own
        torch.cuda.reset_peak_memory_stats()
        model.forward(images)
        peaks["allocator_peak"] = torch.cuda.max_memory_allocated() - others
    return peaks


def table(record: dict[str, Any], device: str) -> str:
    """Return the record of `inference_test` as a table for people."""
    headings = ["batch size", "images/s", "latency, ms", "tensors, MiB"]
    if with_allocator := any("allocator_peak" in row for row in record["batches"]):
        headings.append("allocator, MiB")
    lines = [f"inference on {device}; pruned weights are zeros in dense tensors:"]
    lines.append("".join(f"{heading:>16}" for heading in headings))
    for row in record["batches"]:
        cells = [f"{row['batch_size']}", f"{row['images_per_second']:,.0f}", f"{row['latency_ms']:,.2f}"]
        cells.append(f"{row['tensor_peak'] / MIB:,.1f}")
        if with_allocator:
            cells.append(f"{row['allocator_peak'] / MIB:,.1f}")
        lines.append("".join(f"{cell:>16}" for cell in cells))
    if "stopped" in record:
        lines.append(f"  {record['stopped']}")
    stored, compressed = record["checkpoint_bytes"] / MIB, record["compressed_bytes"] / MIB
    lines.append(f"  checkpoint: {stored:,.2f} MiB, compressed by zlib: {compressed:,.2f} MiB")
    return "\n".join(lines)
