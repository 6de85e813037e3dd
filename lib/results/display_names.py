"""What tables and pictures call optimizers, pruning methods, models and figures of memory, and in which order."""

from __future__ import annotations

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune")
METHODS = ("none", "magnitude", "movement", "state")
OPTIMIZER_NAMES = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adamwadv": "AdamWAdv", "adamwspam": "AdamWSPAM",
    "adamwprune": "AdamWPrune",
}  # fmt: skip
METHOD_NAMES = {"none": "dense"}
MODEL_NAMES = {"lenet5": "LeNet-5", "resnet18": "ResNet-18"}

#: Categories of bytes, bottom to top of a stacked bar.
CATEGORIES = ("weights", "buffers", "gradients", "activations", "optimizer_state", "pruning_state")

#: The figures of memory, as tables and titles name them. They are never mixed in one column or picture axis.
MEMORY_MEASURES = {
    "allocator_peak": "allocator peak (torch.cuda.max_memory_allocated)",
    "by_category": "peak of the bytes by category (counted after the first and last step of each epoch)",
}

MIB = 2**20


def method_name(method: str, variant: str, mode: str | None) -> str:
    """What tables and pictures call a pruning method with its variant or, where no variant tells, its mode."""
    name = METHOD_NAMES.get(method, method)
    if variant:
        return f"{name} ({variant})"
    return name if mode in (None, "gradual") else f"{name}, {mode}"
