"""Time how cost grows: an epoch with batch size, width and images; tables and pictures with the number of runs."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from lib.config.run_config import RunConfig
from lib.report.html import build
from lib.report.publish import from_results
from lib.results.load import load
from lib.results.summary import write_summary
from lib.storage.run_dir import RunDir
from lib.training.models import load_build_model
from lib.training.trainer import Training, train
from scripts.benchmarks.interleaved import Events, time_interleaved
from scripts.benchmarks.training_loop import MODELS, small_config

BATCHES, WIDTHS, IMAGES, RUNS = (64, 128, 256, 512), (8, 16, 32), (1024, 2048, 4096), (10, 100, 1000)


def measure(device: torch.device, rounds: int) -> Events:
    few = max(rounds // 5, 2)
    lenet5, resnet18 = (small_config(model, device) for model in MODELS)
    lenet5 = replace(lenet5, train_images=4096)
    yield from _epochs("LeNet-5, 4,096 images: batch", lenet5, "batch_size", BATCHES, few)
    yield from _epochs("LeNet-5, batch 128: images", replace(lenet5, batch_size=128), "train_images", IMAGES, few)
    yield from _epochs("ResNet-18, 1,024 images, batch 128: width", resnet18, "width", WIDTHS, few)
    yield from _tables(device, few)


def _epochs(what: str, config: RunConfig, field: str, values: tuple[int, ...], rounds: int) -> Events:
    """Time training epochs that differ in one field."""
    with contextlib.ExitStack() as stack:
        calls = {f"{value:,}": stack.enter_context(_epoch(config.changed(**{field: value}))) for value in values}
        yield from time_interleaved(f"epoch of {what}", calls, rounds)


@contextlib.contextmanager
def _epoch(config: RunConfig) -> Iterator[Callable[[], None]]:
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config, RunDir(Path(folder)), load_build_model(config.model), None, lambda line: None)
        training.measure_activations_and_compile()

        def epoch() -> None:
            training.train_epoch()
            training.progress.next_epoch(training.record)

        yield epoch


def _tables(device: torch.device, rounds: int) -> Events:
    """Time table, pictures and report of results folders of so many runs, which are copies of one run."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()):
        run = Path(temporary) / "run"
        run.mkdir()
        config = replace(small_config("lenet5", device), epochs=3)
        train(config, RunDir(run), load_build_model("lenet5"), None, lambda line: None)
        RunDir(run).write_status("done", epochs=3)
        folders = [write_copies(run, Path(temporary) / f"of-{count}", count, device) for count in RUNS]
        calls: dict[str, dict[str, Callable[[], object]]] = {"table": {}, "pictures": {}, "report": {}}
        for count, folder in zip(RUNS, folders, strict=True):
            calls["table"][f"{count:,}"] = lambda folder=folder: write_summary(load(folder))  # type: ignore[misc]
            calls["pictures"][f"{count:,}"] = lambda folder=folder: from_results(folder, None)  # type: ignore[misc]
            calls["report"][f"{count:,}"] = lambda folder=folder: build(folder)  # type: ignore[misc]
        for name, alternatives in calls.items():
            yield from time_interleaved(f"{name} of a matrix: runs", alternatives, max(rounds // 2, 1))


def write_copies(run: Path, folder: Path, count: int, device: torch.device) -> Path:
    """Write results of a comparison: five optimizers, dense and three sparsities of two methods, many seeds."""
    axes = [
        (optimizer, method, sparsity)
        for optimizer in ("sgd", "adam", "adamw", "adamwadv", "adamwspam")
        for method, sparsity in (("none", 0.0), ("magnitude", 0.5), ("magnitude", 0.9), ("movement", 0.5))
    ]
    for index in range(count):
        optimizer, method, sparsity = axes[index % len(axes)]
        seed = index // len(axes)
        copy = shutil.copytree(run, folder / f"lenet5_{optimizer}_{method}_{sparsity}_seed{seed}")
        config = small_config("lenet5", device, optimizer, method, sparsity, seed)
        RunDir(copy).config.write_text(replace(config, epochs=3).to_yaml())
        for heavy in copy.glob("*.pt"):
            heavy.unlink()
    (folder / "matrix.yaml").write_text(json.dumps({"runs": [path.name for path in folder.iterdir()]}))
    return folder
