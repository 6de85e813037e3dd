"""Count the bytes of live tensors by category, on any device. Nothing is modelled.

Every byte is counted once: tensors that share a storage (tied weights, gradient buckets, views) count as that one
storage. Real and fake tensors are both supported, since both have storages with sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

#: The categories of `account`, in the order of tables. Activations are counted separately, by `activation_bytes`,
#: because they live only between a forward pass and its backward pass.
CATEGORIES = ("weights", "gradients", "buffers", "optimizer_state", "pruning_state")


class HoldsBytes(Protocol):
    """A pruner that knows the bytes of its state."""

    def memory_bytes(self) -> dict[str, int]:
        """Return `{"optimizer_state": bytes, "pruning_state": bytes}`, divided by what each byte is used for."""


def storage_key(tensor: Tensor) -> int:
    """Return the identity of the storage of `tensor`; valid as long as some tensor keeps that storage alive."""
    return int(tensor.untyped_storage()._cdata)


def storage_bytes(tensors: Iterable[Tensor], seen: set[int] | None = None) -> int:
    """Return the bytes of the distinct storages of `tensors`; those in `seen` are skipped, new ones added to it."""
    seen = set() if seen is None else seen
    total = 0
    for tensor in tensors:
        key = storage_key(tensor)
        if key not in seen:
            seen.add(key)
            total += tensor.untyped_storage().nbytes()
    return total


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested dicts, lists, tuples and sets."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item)


def account(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: HoldsBytes | None = None) -> dict[str, int]:
    """Return the bytes that weights, gradients, buffers, optimizer state and pruning state hold now.

    Without a pruner all of `optimizer.state` is optimizer state. A pruner decides how the last two are divided, since
    either object may hold masks and scores.
    """
    seen: set[int] = set()
    parameters = list(model.parameters())
    counted = {
        "weights": storage_bytes(parameters, seen),
        "gradients": storage_bytes((p.grad for p in parameters if p.grad is not None), seen),
        "buffers": storage_bytes(model.buffers(), seen),
    }
    if pruner is None:
        held = {"optimizer_state": storage_bytes(tensors_in(dict(optimizer.state)), seen), "pruning_state": 0}
    else:
        held = pruner.memory_bytes()
    return counted | {name: int(held[name]) for name in ("optimizer_state", "pruning_state")}


def activation_bytes(
    model: nn.Module, inputs: Tensor, labels: Tensor, loss_fn: Callable[[Tensor, Tensor], Tensor]
) -> int:
    """Return the bytes that one forward pass keeps for its backward pass, without parameters, buffers and batch.

    Runs `loss_fn(model(inputs), labels)` once, in the mode and under the autocast that the caller has set. Batch
    statistics and random state are restored afterwards and no gradient is changed, so that the pass does not affect
    training.
    """
    known: set[int] = set()
    storage_bytes([*model.parameters(), *model.buffers(), inputs, labels], known)
    held: list[Tensor] = []  # keeps every saved storage alive, so that no identity is used twice

    def pack(tensor: Tensor) -> int:
        held.append(tensor.detach())
        return len(held) - 1

    before = [buffer.detach().clone() for buffer in model.buffers()]
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, held.__getitem__):
                loss = loss_fn(model(inputs), labels)
            total = storage_bytes(held, known)
            del loss
        finally:
            with torch.no_grad():
                for buffer, value in zip(model.buffers(), before, strict=True):
                    buffer.copy_(value)
    return total
