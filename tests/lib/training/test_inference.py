"""lib/training/inference.py: what it reports is what the tensors and the file hold, and measuring changes nothing."""

from __future__ import annotations

import contextlib
import re
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lib.data import dataset as datasets
from lib.data.dataset import Data
from lib.training import inference
from tests.helpers.tiny_runs import assert_same_outcome, lenet5, run, tiny


def model_and_data() -> tuple[nn.Module, Data]:
    config = tiny()
    data = datasets.load(config, torch.device("cpu"))
    torch.manual_seed(0)
    return lenet5(config, data), data


def test_memory_is_weights_images_and_the_largest_pair_of_layers() -> None:
    model, data = model_and_data()
    (row,), _ = inference.measure(model, data, tiny(), batch_sizes=[8], seconds=0.0)
    own = 4 * 61_750 + 2 * (6 + 16) * 4 + 2 * 8 + 8 * 32 * 32 * 4
    # at the first pooling: the result of the convolution is gone, that of the norm, the pooled one and its indices stay
    norm, pooled = 8 * 6 * 28 * 28 * 4, 8 * 6 * 14 * 14 * 4
    convolution_and_norm = 2 * norm
    assert row["tensor_peak"] - own == max(convolution_and_norm, norm + 3 * pooled)
    assert "allocator_peak" not in row  # there is no allocator to ask on the CPU


def test_larger_batches_take_more_memory_and_it_says_why_it_stops_before_the_largest() -> None:
    model, data = model_and_data()
    small = replace(data, test_images=data.test_images[:40])
    rows, stopped = inference.measure(model, small, tiny(), seconds=0.0)
    assert stopped == "stopped before batch size 64: the test set has 40 images"
    assert [row["batch_size"] for row in rows] == [1, 2, 4, 8, 16, 32]
    assert sorted(row["tensor_peak"] for row in rows) == [row["tensor_peak"] for row in rows]
    for row in rows:
        assert abs(row["images_per_second"] * row["latency_ms"] / 1000 - row["batch_size"]) < 1e-6


def test_measuring_changes_neither_the_weights_nor_the_mode() -> None:
    model, data = model_and_data()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference.measure(model, data, tiny(), batch_sizes=[4], seconds=0.0)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_sizes_are_those_of_the_file_before_and_after_compression() -> None:
    model, data = model_and_data()
    small = replace(data, test_images=data.test_images[:1])
    sparse = bytes(100_000) + bytes(range(256)) * 10
    record = inference.inference_test(model, small, tiny(), contextlib.nullcontext(), sparse)
    assert record["checkpoint_bytes"] == 102_560
    assert record["compressed_bytes"] == len(zlib.compress(sparse)) < 2000
    assert [row["batch_size"] for row in record["batches"]] == [1]


def test_a_run_that_asks_for_it_keeps_the_figures_in_its_summary(tmp_path: Path) -> None:
    plain = run(tiny(epochs=1), tmp_path / "plain")
    asked = run(tiny(epochs=1, inference_test=True), tmp_path / "asked")
    assert "inference" not in plain
    assert asked["inference"]["checkpoint_bytes"] == (tmp_path / "asked/model.safetensors").stat().st_size
    assert [row["batch_size"] for row in asked["inference"]["batches"]] == list(inference.BATCH_SIZES)
    assert_same_outcome(tmp_path / "plain", tmp_path / "asked")


def test_a_batch_that_does_not_fit_ends_the_measurement_and_not_the_run() -> None:
    class Hungry(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return images

    _, data = model_and_data()
    rows, stopped = inference.measure(Hungry(), data, tiny(), seconds=0.0)
    assert [row["batch_size"] for row in rows] == [1, 2]
    assert stopped == "stopped at batch size 4: out of memory"


def test_the_run_prints_a_table_with_units(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tiny(epochs=1, inference_test=True), tmp_path, log=lines.append)
    (table,) = (line.splitlines() for line in lines if line.startswith("inference on CPU"))
    assert re.split(r"  +", table[1].strip()) == ["batch size", "images/s", "latency, ms", "tensors, MiB"]
    assert [line.split()[0] for line in table[2:11]] == [str(size) for size in inference.BATCH_SIZES]
    assert table[-1].strip().startswith("checkpoint: 0.24 MiB, compressed by zlib: 0.")


def test_the_table_says_when_it_stopped_early() -> None:
    row = {"batch_size": 1, "images_per_second": 1234.5, "latency_ms": 0.81, "tensor_peak": 2**20}
    record = {"checkpoint_bytes": 2**20, "compressed_bytes": 2**19, "batches": [row | {"allocator_peak": 2**21}]}
    lines = inference.table(record | {"stopped": "stopped at batch size 2: out of memory"}, "a GPU").splitlines()
    assert lines[1].split()[-2:] == ["allocator,", "MiB"]
    assert lines[2].split() == ["1", "1,234", "0.81", "1.0", "2.0"]
    assert lines[3].strip() == "stopped at batch size 2: out of memory"
