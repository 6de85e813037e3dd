"""Count the bytes that are alive after every operation, on real or on fake tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .accounting import storage_key

Bytes = dict[str, int]


class MemoryTracker(TorchDispatchMode):
    """Count the bytes of all storages that operations create, for as long as they live.

    A storage is counted in the category that ``category`` names when it appears, until ``assign`` moves it.

    Args:
        before: tensors whose storages are not counted.

    Attributes:
        category: name under which new storages are counted.
        current: bytes alive now, by category.
        peak: bytes by category at the moment of the largest total since ``reset_peak``.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._before = {storage_key(tensor) for tensor in before}
        self.category = "temporary"
        self.current: Counter[str] = Counter()
        self.peak: Bytes = {}
        self._total = 0
        self._peak_total = -1
        self._alive: dict[int, tuple[int, str, weakref.ref[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value)
        return result

    def assign(self, tensor: Tensor, category: str) -> None:
        """Count the storage of ``tensor`` in another category from now on."""
        key = storage_key(tensor)
        size, old, reference = self._alive[key]
        self.current[old] -= size
        self.current[category] += size
        self._alive[key] = (size, category, reference)

    def reset_peak(self) -> None:
        """Set the peak to what is alive now."""
        self._peak_total = self._total
        self.peak = dict(self.current)

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._before:
            return
        size = storage.nbytes()
        self._alive[key] = (size, self.category, weakref.ref(storage, partial(self._drop, key)))
        self.current[self.category] += size
        self._total += size
        if self._total > self._peak_total:
            self.reset_peak()

    def _drop(self, key: int, _: Any) -> None:
        size, category, _ = self._alive.pop(key)
        self.current[category] -= size
        self._total -= size
