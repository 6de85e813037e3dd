"""Where a run computes, and on how many threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lib.config.run_config import RunConfig
from lib.training import device


def test_threads_that_are_left_open_are_the_cores_that_the_run_may_use(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cores", lambda: 3)
    assert device.resolve_device(make_config(device="cpu", threads=0)).threads == 3
    assert device.resolve_device(make_config(device="cpu", threads=1)).threads == 1
