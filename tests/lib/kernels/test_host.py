"""What needs the content of tensors goes through the host, which can be exchanged for a while."""

from __future__ import annotations

import pytest
import torch

from lib.kernels import cpu, host
from lib.pruning import masks


class BlindHost(host.Host):
    """A host that cannot read any tensor."""

    def can_read(self, tensor: torch.Tensor) -> bool:
        return False


def test_another_host_answers_within_the_block_alone_also_if_it_ends_by_an_error() -> None:
    usual, blind = host.current(), BlindHost()
    with pytest.raises(KeyError), host.use(blind):
        assert host.current() is blind
        assert not cpu.supports(torch.zeros(3))
        raise KeyError
    assert host.current() is usual


def test_positions_are_the_same_whether_the_host_reads_the_bits_or_not() -> None:
    kept = torch.rand(1000) < 0.3
    bits = masks.pack(kept)
    expected = masks.positions(bits, 0, 1000, int(kept.sum()))
    with host.use(BlindHost()):
        assert torch.equal(masks.positions(bits, 0, 1000, int(kept.sum())), expected)


def test_a_constant_is_made_once_for_each_device_and_host() -> None:
    def build(device: torch.device) -> torch.Tensor:
        return torch.ones(2, device=device)

    cpu_device, one = torch.device("cpu"), host.Host()
    assert one.table(build, cpu_device) is one.table(build, cpu_device)
    assert one.table(build, cpu_device) is not host.Host().table(build, cpu_device)
