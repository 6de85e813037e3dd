"""Answer the questions of the optimizers and pruners that need the content of tensors on the host.

Everything else that they do works on shapes alone. The memory estimate runs their code on fake tensors, which have no
content, with a host of its own: ``with use(FakeHost()): ...``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Table = Callable[[torch.device], Tensor]


class Host:
    """Answer from the content of real tensors."""

    def __init__(self) -> None:
        self._tables: dict[tuple[Table, torch.device], Tensor] = {}

    def can_read(self, tensor: Tensor) -> bool:
        """Return whether code of the CPU may read the memory of ``tensor`` directly. A mere wrapper has none."""
        return tensor.device.type == "cpu" and not is_traceable_wrapper_subclass(tensor)

    def address(self, tensor: Tensor) -> int:
        """Return where in memory ``tensor`` begins."""
        return tensor.data_ptr()

    def table(self, build: Table, device: torch.device) -> Tensor:
        """Return the constant ``build(device)``, made at the first call and kept."""
        key = (build, device)
        if key not in self._tables:
            self._tables[key] = build(device)
        return self._tables[key]

    def mask_counts(self, counts: Sequence[Tensor], sizes: Sequence[int], totals: Sequence[int]) -> list[list[int]]:
        """Return the numbers of set bits of all masks and slices, brought to the host in one transfer.

        Args:
            counts: int64, one tensor for each mask with one entry for each slice, on any device.
            sizes: number of weights of each mask.
            totals: how many bits of each mask are expected to be set; not checked here.
        """
        numbers = iter(torch.cat([part.to(counts[0].device) for part in counts]).tolist())
        return [[next(numbers) for _ in range(part.numel())] for part in counts]

    def histograms(self, table: Tensor, totals: Sequence[int]) -> np.ndarray:
        """Return histograms of scores, one row for each layer, brought to the host in one transfer.

        Args:
            table: whole numbers of shape (layers, bins) on any device.
            totals: the sum expected of each row; not checked here.
        """
        numbers: np.ndarray = table.cpu().numpy()
        return numbers


_real = Host()
_current: ContextVar[Host] = ContextVar("host", default=_real)


def current() -> Host:
    """Return the host that answers in this thread."""
    return _current.get()


@contextlib.contextmanager
def use(host: Host) -> Iterator[None]:
    """Let ``host`` answer within the block."""
    token = _current.set(host)
    try:
        yield
    finally:
        _current.reset(token)
