"""Results folders as runs would leave them, with invented numbers: for tests of tables, pictures, reports."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam")
LAYERS = {"conv1": 150, "conv2": 2400, "fc1": 48000, "fc2": 10080, "fc3": 840}
PARAMETERS, PRUNABLE, START = 61_750, 61_470, 1_700_000_000.0
STATE_BYTES = {"sgd": 4.0, "adamwadv": 12.0}


def compare_matrix(sparsities: Iterable[float] = (0.5, 0.7, 0.9)) -> list[tuple[str, str, float]]:
    """The 39 runs of lenet5-compare: five optimizers with three methods, AdamWPrune with two."""
    levels = tuple(sparsities)
    runs = []
    for optimizer in OPTIMIZERS:
        runs.append((optimizer, "none", 0.0))
        runs += [(optimizer, method, s) for method in ("magnitude", "movement") for s in levels]
    return [*runs, ("adamwprune", "none", 0.0), *(("adamwprune", "state", s) for s in levels)]


def run_id(model: str, optimizer: str, method: str, sparsity: float, seed: int | None = None) -> str:
    percent = "" if method == "none" else f"_{100 * sparsity:g}"
    return f"{model}_{optimizer}_{method}{percent}" + ("" if seed is None else f"_seed{seed}")


def ramp(progress: float, final: float) -> float:
    """Zhu & Gupta's cubic ramp between 0.1 and 0.6 of the run."""
    p = min(max((progress - 0.1) / 0.5, 0.0), 1.0)
    return final * (1 - (1 - p) ** 3)


def state_memory(optimizer: str, method: str, sparsity: float) -> dict[str, int]:
    per_weight = STATE_BYTES.get(optimizer, 8.0)
    pruning = {"none": 0.0, "magnitude": 1 / 8, "movement": 4 + 1 / 8, "state": 1 / 8}[method]
    if method == "state":
        per_weight = 8 * (1 - sparsity)
    return {
        "weights": 4 * PARAMETERS,
        "gradients": 4 * PARAMETERS,
        "buffers": 360,
        "optimizer_state": int(per_weight * PARAMETERS),
        "pruning_state": int(pruning * PRUNABLE),
        "activations": 9_500_000,
    }


def epochs_of(optimizer: str, method: str, target: float, seed: int, epochs: int, gpu: bool) -> list[dict[str, Any]]:
    noise = random.Random(f"{optimizer}{method}{target}{seed}")
    ceiling = 99.2 - 0.25 * (optimizer == "sgd") - 2.0 * target**6 * (1 + (method == "magnitude"))
    rows = []
    for epoch in range(1, epochs + 1):
        sparsity = ramp(epoch / epochs, target)
        accuracy = ceiling - 3.5 * math.exp(-0.7 * epoch) - 0.3 * (sparsity > 0) + noise.gauss(0, 0.06)
        memory = state_memory(optimizer, method, sparsity)
        if gpu:
            memory |= {"allocator_peak": sum(memory.values()) + 2_000_000, "reserved_peak": 24 * 2**20}
        layers = {name: min(0.99, sparsity * (0.5 + 0.5 * size / 48000)) for name, size in LAYERS.items()}
        rows.append(
            {
                "epoch": epoch,
                "train_loss": 0.6 * math.exp(-0.5 * epoch) + 0.02,
                "train_accuracy": accuracy + 0.3,
                "test_loss": 0.4 * math.exp(-0.5 * epoch) + 0.03,
                "test_accuracy": accuracy,
                "sparsity": sparsity,
                "sparsity_total": sparsity * PRUNABLE / PARAMETERS,
                "layer_sparsity": layers,
                "learning_rate": 0.002 * (1 + math.cos(math.pi * epoch / epochs)) / 2,
                "epoch_seconds": 4.0 + noise.random() + 0.6 * (method == "movement"),
                "images_per_second": 12_000.0,
                "memory": memory,
                "time": START + 3 + 5.0 * epoch,
            }
        )
    return rows


def samples_of(method: str, epochs: int, gpu: bool, seed: int) -> list[dict[str, Any]]:
    noise, rows = random.Random(seed), []
    total = 3 + 5 * epochs
    for second in range(total + 1):
        progress = max(second - 3, 0) / (5 * epochs)
        phase = "startup" if second < 3 else "evaluate" if (second - 3) % 5 == 4 else "train"
        if phase == "train" and method != "none" and progress > 0.1:
            phase = "ramp" if progress < 0.6 else "finetune"
        row = {"time": START + second, "phase": phase, "host_rss_mib": 620 + noise.random() * 4}
        if gpu:
            row |= {
                "gpu": 0,
                "device_used_mib": 900 + noise.random(),
                "process_mib": 480.0 + 8 * noise.random(),
            }
        rows.append(row)
    return rows


def importance_of(target: float) -> list[dict[str, Any]]:
    edges = [10 ** (-6 + 0.125 * i) for i in range(41)]
    entries = []
    for step, sparsity in ((200, target / 3), (400, 2 * target / 3), (600, target)):
        counts = [int(4000 * math.exp(-((i - 22 - step / 200) ** 2) / 40)) for i in range(40)]
        pruned = [count if i < 14 + step // 100 else 0 for i, count in enumerate(counts)]
        entries.append({"step": step, "sparsity": sparsity, "edges": edges, "counts": counts, "pruned": pruned})
    return entries


def make_run(
    root: Path,
    optimizer: str = "adamw",
    method: str = "none",
    target: float = 0.0,
    seed: int | None = None,
    *,
    model: str = "lenet5",
    epochs: int = 10,
    state: str = "done",
    reason: str | None = None,
    gpu: bool = False,
    dataset: str = "mnist",
) -> Path:
    """One run folder; a state other than done stops it half way and leaves no summary."""
    folder = root / run_id(model, optimizer, method, target, seed)
    folder.mkdir(parents=True)
    config = {
        "model": model, "optimizer": optimizer, "pruning_method": method, "target_sparsity": target,
        "seed": seed or 0, "epochs": epochs, "dataset": dataset, "batch_size": 256, "learning_rate": 0.002,
        "device": "cuda" if gpu else "cpu", "precision": "fp32",
    }  # fmt: skip
    if method != "none":
        config |= {"pruning_start": 0.1, "pruning_end": 0.6}
    rows = epochs_of(optimizer, method, target, seed or 0, epochs, gpu)
    if method == "state":
        for row, entry in zip(rows, importance_of(target), strict=False):
            row["importance"] = entry
    if state != "done":
        rows = rows[: epochs // 2]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = samples_of(method, len(rows), gpu, seed or 0)
    (folder / "gpu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    status = {"state": state, "reason": reason, "epoch": len(rows), "epochs": epochs, "started": START}
    (folder / "status.json").write_text(json.dumps(status | {"exit_code": 0 if state == "done" else 1}))
    (folder / "log.txt").write_text("".join(f"epoch {row['epoch']}: {row['test_accuracy']:.2f}\n" for row in rows))
    if state == "done":
        (folder / "summary.json").write_text(json.dumps(summary_of(config, rows)))
    return folder


def summary_of(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    best = max(rows, key=lambda row: row["test_accuracy"])
    last, seconds = rows[-1], sum(row["epoch_seconds"] for row in rows)
    names = ("weights", "gradients", "buffers", "optimizer_state", "pruning_state", "activations")
    summary = {name: config[name] for name in ("model", "optimizer", "pruning_method", "target_sparsity", "seed")} | {
        "final_accuracy": last["test_accuracy"],
        "best_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "final_sparsity": last["sparsity"],
        "final_sparsity_total": last["sparsity"] * PRUNABLE / PARAMETERS,
        "parameters": PARAMETERS,
        "prunable": PRUNABLE,
        "seconds": seconds,
        "epoch_seconds_mean": seconds / len(rows),
        "memory": {name: last["memory"][name] for name in names},
        "memory_peak": {name: max(row["memory"][name] for row in rows) for name in names},
        "synthetic": config["dataset"] == "synthetic",
    }
    if "allocator_peak" in last["memory"]:
        summary["allocator_peak"] = last["memory"]["allocator_peak"]
    return summary


def make_results(root: Path, runs: Iterable[tuple[str, str, float]], seeds: int = 1, **settings: Any) -> Path:
    """A results folder with every run of `runs` for every seed; `settings` go to make_run."""
    folder = root / "lenet5-compare-20240101-120000"
    folder.mkdir(parents=True)
    model, names = settings.get("model", "lenet5"), []
    for optimizer, method, target in runs:
        for seed in range(seeds) if seeds > 1 else [None]:
            names.append(make_run(folder, optimizer, method, target, seed, **settings).name)
    (folder / "matrix.yaml").write_text(yaml.safe_dump({"preset": "lenet5-compare", "model": model, "runs": names}))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.2", "torch": "2.11", "device": "cpu"}))
    return folder


def with_inference(folder: Path) -> Path:
    """The same results folder, its runs with the record of an inference test."""
    for path in folder.glob("*/summary.json"):
        speed = {"latency_ms": 1.1, "images_per_second": 900.0}
        batches = [speed | {"batch_size": size, "tensor_peak": 9000 * (30 + size)} for size in (1, 8, 64)]
        measured = {"checkpoint_bytes": 250_000, "compressed_bytes": 90_000, "batches": batches}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"inference": measured}))
    return folder


def make_study(root: Path, seeds: int = 3) -> Path:
    """A results folder with variants of state and magnitude pruning beside the plain runs, at 90 and 98 %."""
    pruned = [(o, m, s) for o, m in (("adamw", "magnitude"), ("adamwprune", "state")) for s in (0.9, 0.98)]
    folder = make_results(root, [("adamw", "none", 0.0), *pruned], seeds)
    for optimizer, method, variant in (
        ("adamw", "magnitude", "lamp"), ("adamwprune", "state", "obd"), ("adamwprune", "state", "a-long-name-of-one"),
    ):  # fmt: skip
        for sparsity in (0.9, 0.98):
            for seed in range(seeds):
                plain = folder / run_id("lenet5", optimizer, method, sparsity, seed)
                copy = shutil.copytree(plain, folder / plain.name.replace("_seed", f"_{variant}_seed"))
                config = yaml.safe_load((copy / "config.yaml").read_text()) | {"variant": variant}
                (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
