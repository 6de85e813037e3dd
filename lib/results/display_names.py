"""What tables and pictures call optimizers, pruning methods, models and figures of memory, and in which order."""

from __future__ import annotations

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune")
METHODS = ("none", "magnitude", "movement", "state")
OPTIMIZER_NAMES = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adamwadv": "AdamWAdv", "adamwspam": "AdamWSPAM",
    "adamwprune": "AdamWPrune",
}  # fmt: skip
METHOD_NAMES = {"none": "dense"}
#: How layers share the budget of a pruning method; the methods share the first one unless they are told otherwise.
RANKING_NAMES = {"layer_adaptive": "layer-adaptive", "global": "global", "uniform": "uniform", "erk": "ERK"}
DEFAULT_RANKING = "layer_adaptive"

#: What the modes of AdamWPrune's state pruning hold, beside the mask of one bit per weight.
MODES = {
    "gradual": "Adam's moments of all weights at first, of the survivors alone after the ramp",
    "lean": "from the first step on moments for as many weights as will survive; the others step without, by row",
    "dynamic": "weights and moments of the survivors alone from the first step on, exchanged at each update",
}
MODEL_NAMES = {"lenet5": "LeNet-5", "resnet18": "ResNet-18"}

#: Categories of bytes, bottom to top of a stacked bar.
CATEGORIES = ("weights", "buffers", "gradients", "activations", "optimizer_state", "pruning_state")

#: The figures of memory, as tables and titles name them. They are never mixed in one column or picture axis.
MEMORY_MEASURES = {
    "allocator_peak": "allocator peak (torch.cuda.max_memory_allocated)",
    "by_category": "peak of the bytes by category (counted after the first and last step of each epoch)",
}

MIB = 2**20


def method_name(method: str, variant: str = "", mode: str | None = None, ranking: str = "") -> str:
    """Return what tables and pictures call a pruning method with its variant or, where none tells, mode and ranking."""
    name = METHOD_NAMES.get(method, method)
    if variant:
        return f"{name} ({variant})"
    parts = [name] if mode in (None, "gradual") else [name, str(mode)]
    return ", ".join([*parts, *([f"{RANKING_NAMES.get(ranking, ranking)} ranking"] if ranking else [])])
