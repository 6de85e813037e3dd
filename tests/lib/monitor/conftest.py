"""What tests of the monitor share."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from lib.monitor.host import Host
from tests.helpers.run_train_py import wait_for


@pytest.fixture(autouse=True)
def all_devices_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device is hidden by the environment in which the tests were started."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with one child, as a run with a data loader is."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], start_new_session=True) as child:
        wait_for(lambda: len(Host().tree(child.pid)) == 2 and (Host().tree_rss_mib(child.pid) or 0) > 0.5)
        yield child
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
