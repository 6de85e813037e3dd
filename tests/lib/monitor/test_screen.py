"""The live table: what fits on a terminal, and names that are shown as they are."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from lib.monitor.discovery import find
from lib.monitor.host import Host
from lib.monitor.screen import History, page
from lib.monitor.snapshot import snapshot
from tests.helpers.fake_nvml import FakeNvml, device, process


def test_many_devices_leave_room_for_the_processes_on_a_low_terminal() -> None:
    nvml = FakeNvml(*[device(uuid=f"GPU-{n}", load=(10 * n, 1), compute=[process(os.getpid(), 900)]) for n in range(8)])
    gpus = find(Path("/nowhere"), nvml)
    for height, lines_each in ((24, 1), (60, 3)):
        console = Console(width=80, height=height, file=io.StringIO(), record=True)
        console.print(page(snapshot(gpus, Host()), History(), [], None, 80, height, 1.0))
        rows = console.export_text().splitlines()
        first = next(i for i, row in enumerate(rows) if row.startswith("7 "))
        assert first == 1 + 7 * lines_each
        assert "70 %" in rows[first + (lines_each > 1)]
        assert "20,000 / 81,559 MiB" in rows[first + (2 if lines_each > 1 else 0)]
        assert next(i for i, row in enumerate(rows) if str(os.getpid()) in row) < height


def test_a_name_with_brackets_stands_on_the_screen_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    seen = snapshot(find(nvml=FakeNvml(device(name="oddity [/x]"))), Host())
    for height in (8, 80):  # one line each, and three
        Console(width=100).print(page(seen, History(), [], None, 100, height))
        assert "oddity [/x]" in capsys.readouterr().out
