"""The host's side: memory, process trees, a watched process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.monitor.host import Host, Watched
from tests.helpers.fake_nvml import MIB
from tests.helpers.gpu_recordings import unpack, write


def test_process_of_a_recorded_tree_is_watched_there_and_not_on_this_machine(tmp_path: Path) -> None:
    write(tmp_path, f"proc/{os.getpid()}/stat", f"{os.getpid()} (python3) S 1")
    watched = Watched(os.getpid(), Host(tmp_path))
    assert not watched.gone and watched.handle is None
    assert Host(tmp_path).memory_mib() == {}  # a gap, not this machine's


def test_host_memory_and_process_tree_from_a_recorded_proc(tmp_path: Path) -> None:
    host = Host(unpack("amd_rx7900xtx", tmp_path))
    assert host.memory_mib() == {"host_used_mib": 12000.0, "host_total_mib": 32000.0}
    write(tmp_path, "proc/4711/task/4711/children", "4801")
    write(tmp_path, "proc/4711/task/4712/children", "4802 4803")
    for pid, pages in ((4801, 256), (4802, 512)):
        write(tmp_path, f"proc/{pid}/statm", f"9999 {pages} 0 0 0 0 0")
    write(tmp_path, "proc/4803/statm", "0 0 0 0 0 0 0")  # a zombie
    write(tmp_path, "proc/4803/stat", "4803 (a) name) Z 1")
    assert sorted(host.tree(4711)) == [4711, 4801, 4802, 4803]
    mib = host.page / MIB
    assert host.tree_rss_mib(4711) == pytest.approx((262144 + 256 + 512) * mib)
    assert host.tree_rss_mib(99999) is None
    assert host.exists(4711) and not host.exists(4803) and not host.exists(99999)
    assert host.name(4711) == "python3 train.py"
