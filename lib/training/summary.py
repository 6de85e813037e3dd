"""Summarise a finished run: the record from which tables and pictures are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..pruning.prunable import prunable_parameters

if TYPE_CHECKING:
    from ..config.run_config import RunConfig
    from .device import DeviceSetup

PEAKS = ("allocator_peak", "reserved_peak")  # bytes, CUDA only


def summarise(config: RunConfig, setup: DeviceSetup, model: nn.Module, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary of a finished run from the records of its epochs (at least one).

    Accuracies are percentages, of the last epoch and, labelled so, of the best one; sparsities are fractions of counted
    zeros; times are seconds over all epochs, also of interrupted runs; memory is in bytes.
    """
    last = history[-1]
    best = max(history, key=lambda record: record["test_accuracy"])
    training = [record["epoch_seconds"] for record in history]
    categories = [name for name in last["memory"] if name not in PEAKS]

    def peak(name: str) -> int:
        return max(record["memory_peak"].get(name, 0) for record in history)

    summary: dict[str, Any] = {
        "model": config.model,
        "optimizer": config.optimizer,
        "pruning_method": config.pruning_method,
        "target_sparsity": config.target_sparsity,
        "seed": config.seed,
        "dataset": config.dataset,
        "synthetic": config.dataset == "synthetic",
        "device": setup.name,
        "precision": setup.precision,
        "epochs": len(history),
        "final_accuracy": last["test_accuracy"],
        "final_loss": last["test_loss"],
        "best_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "final_sparsity": last["sparsity"],
        "final_sparsity_total": last["sparsity_total"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prunable": sum(weight.numel() for weight in prunable_parameters(model).values()),
        "seconds": sum(training) + sum(record["evaluation_seconds"] for record in history),
        "epoch_seconds_mean": sum(training) / len(training),
        "images_per_second": last["images_per_second"],
        "memory": {name: last["memory"][name] for name in categories},
        "memory_peak": {name: peak(name) for name in categories},
    }
    if (planned := history[0].get("planned_epochs", config.epochs)) != config.epochs:
        summary["extended_from_epochs"] = planned  # its schedules are not those of a run planned for so many epochs
    if "validation_accuracy" in last:
        summary["final_validation_accuracy"] = last["validation_accuracy"]
    return summary | {name: peak(name) for name in PEAKS if name in last["memory"]}
