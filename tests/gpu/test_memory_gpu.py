"""Accounting, prediction and monitor against a real GPU. Skipped where there is none.

The table that is published comes from `pytest -m gpu tests/gpu/test_memory_gpu.py -s`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet5.train import build_model as lenet5
from lib.config import kconfig
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.data import dataset as datasets
from lib.data import loader
from lib.memory import accounting
from lib.memory_estimate.estimator import MemoryEstimator
from lib.storage.run_dir import RunDir
from lib.training.inference import measure
from lib.training.trainer import Training
from resnet18.train import build_model as resnet18
from scripts import gputop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

MIB = 2**20
BUILD = {"lenet5": lenet5, "resnet18": resnet18}


@pytest.fixture(autouse=True)
def clean_device() -> Iterator[None]:
    yield
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def config(model: str, optimizer: str = "adamw", method: str = "none", **changes: Any) -> RunConfig:
    run = run_config(kconfig.defaults(), model, optimizer, method, 0.9, seed=0)
    few = {"dataset": "synthetic", "train_images": 4096, "eval_batch_size": 64, "compile": "off", "epochs": 2}
    return replace(run, **(few | {"device": "cuda", "monitor": False} | changes))


def training(run: RunConfig, path: Path) -> Training:
    return Training(run, RunDir(path), BUILD[run.model], None, lambda line: None)


def steps(run: Training, number: int) -> None:
    run.model.train()
    source = loader.batches(run.data, run.config, 0)
    for step, (images, labels) in zip(range(number), source, strict=False):
        run.train_step(images, labels, step)


def requested() -> int:
    """Bytes that live tensors asked for, after cuBLAS has given back its workspaces.

    `memory_allocated` counts blocks instead: one that is used again may be up to 1 MiB larger than what was asked for.
    """
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


def stored(run: Training) -> int:
    data = run.data
    parts = (data.train_images, data.train_labels, data.test_images, data.test_labels, data.mean, data.std)
    return sum(tensor.untyped_storage().nbytes() for tensor in parts)


@pytest.mark.parametrize("model", ["lenet5", "resnet18"])
@pytest.mark.parametrize(("optimizer", "method"), [("adamw", "movement"), ("adamwprune", "none")])
def test_categories_add_up_to_what_the_allocator_holds(tmp_path: Path, model: str, optimizer: str, method: str) -> None:
    before = requested()
    run = training(config(model, optimizer, method), tmp_path)
    steps(run, 3)
    held = sum(accounting.account(run.model, run.optimizer, run.pruner).values()) + stored(run)
    assert held == pytest.approx(requested() - before, rel=0.02)


def test_predicted_peaks_are_the_allocators(tmp_path: Path) -> None:
    estimator = MemoryEstimator(BUILD.__getitem__)
    rows = []
    for model in BUILD:
        for precision in ("fp32", "bf16"):
            for batch in (128, 512):
                run = config(model, precision=precision, batch_size=batch)
                rows.append((model, precision, batch, *peaks(estimator, run, tmp_path)))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, peaks in MiB")
    print("model    precision batch  predicted  measured         requested")
    for model, precision, batch, predicted, measured, asked in rows:
        shares = [f"{size / MIB:9.1f} {100 * (predicted / size - 1):+.1f} %" for size in (measured, asked)]
        print(f"{model:8} {precision:9} {batch:5}  {predicted / MIB:9.1f} {'  '.join(shares)}")
    assert all(abs(predicted / measured - 1) < 0.03 for *_, predicted, measured, _ in rows)


def peaks(estimator: MemoryEstimator, config: RunConfig, path: Path) -> tuple[int, int, int]:
    """Predicted and measured peak of a training step, and that of the bytes that tensors asked for."""
    requested()
    counters = ("allocated_bytes.all", "requested_bytes.all")
    before = [torch.cuda.memory_stats()[f"{name}.current"] for name in counters]
    run = training(config, path / config.run_id)
    steps(run, 3)  # algorithms are chosen by now
    held = torch.cuda.memory_stats()
    requested()
    workspaces = [held[f"{name}.current"] - torch.cuda.memory_stats()[f"{name}.current"] for name in counters]
    steps(run, 1)  # and the workspaces are back
    torch.cuda.reset_peak_memory_stats()
    steps(run, 3)
    torch.cuda.synchronize()
    highest = [torch.cuda.memory_stats()[f"{name}.peak"] for name in counters]
    measured, asked = (peak - start - space for peak, start, space in zip(highest, before, workspaces, strict=True))
    del run
    return estimator.predict(config).training_peak("start"), measured, asked


def test_pruning_gives_back_what_is_predicted(tmp_path: Path) -> None:
    prediction = MemoryEstimator(BUILD.__getitem__)
    changes = {"pruning_start": 0.1, "pruning_end": 0.5, "pruning_interval": 2, "batch_size": 128}
    run = training(config("resnet18", "adamwprune", "state", **changes), tmp_path)
    steps(run, 2)
    dense = requested()
    for _ in range(2):
        steps(run, run.steps)
    stages = prediction.predict(run.config).stages
    states = [
        sum(stages[stage]["pass"][name] for name in ("optimizer_state", "pruning_state"))
        for stage in ("start", "after")
    ]
    assert dense - requested() == pytest.approx(states[0] - states[1], rel=0.02)


def test_monitor_sees_this_process_and_all_that_it_holds(tmp_path: Path) -> None:
    ballast = torch.zeros(512 * MIB, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    output = tmp_path / "gpu.jsonl"
    command = [sys.executable, gputop.__file__, "--pid", str(os.getpid()), "--output", str(output)]
    began = time.monotonic()
    subprocess.run([*command, "--interval", "0.1", "--count", "20"], check=True, timeout=60)
    assert time.monotonic() - began < 5
    samples = [json.loads(line) for line in output.read_text().splitlines()]
    last = samples[-1]
    assert last["device_used_mib"] >= 512
    assert {"gpu", "gpu_utilization", "host_rss_mib", "time"} <= set(last)
    # in a container the driver may not say which process is ours; then there is a gap, and no figure
    if "process_mib" in last:
        assert 512 <= last["process_mib"] <= last["device_used_mib"] + 1
    del ballast


def test_inference_is_measured_by_the_allocator() -> None:
    run = config("lenet5")
    data = datasets.load(run, torch.device("cuda"))
    rows = measure(BUILD["lenet5"](run, data).cuda(), data, run, batch_sizes=(1, 256), seconds=0.1)
    assert all(row["allocator_peak"] > 0 and row["images_per_second"] > 0 for row in rows)
    assert rows[1]["allocator_peak"] > rows[0]["allocator_peak"]
