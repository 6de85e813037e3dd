"""Counting the bytes that are alive after every operation, on real or on fake tensors."""

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


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations bring forth, for as long as they live.

    A storage is of the kind that `kind` names when it appears, until `assign` says otherwise. `highest` is the
    composition at the moment of the largest total since it was last cleared. What was there `before` does not count.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._before = {storage_key(tensor) for tensor in before}
        self.kind = "temporary"
        self.now: Counter[str] = Counter()
        self.highest: Bytes = {}
        self._total = 0
        self._highest_total = -1
        self._alive: dict[int, tuple[int, str, weakref.ref[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value)
        return result

    def assign(self, tensor: Tensor, kind: str) -> None:
        """The storage of `tensor` is of this kind from now on."""
        key = storage_key(tensor)
        size, old, reference = self._alive[key]
        self.now[old] -= size
        self.now[kind] += size
        self._alive[key] = (size, kind, reference)

    def forget(self) -> None:
        """Look for the highest total anew, from now on."""
        self._highest_total = self._total
        self.highest = dict(self.now)

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._before:
            return
        size = storage.nbytes()
        self._alive[key] = (size, self.kind, weakref.ref(storage, partial(self._drop, key)))
        self.now[self.kind] += size
        self._total += size
        if self._total > self._highest_total:
            self._highest_total = self._total
            self.highest = dict(self.now)

    def _drop(self, key: int, _: Any) -> None:
        size, kind, _ = self._alive.pop(key)
        self.now[kind] -= size
        self._total -= size
