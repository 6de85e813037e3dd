"""AMD's devices from recorded trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.monitor import amd
from tests.helpers.gpu_recordings import unpack


def test_amd_card_is_read_from_its_files(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_rx7900xtx", tmp_path))
    assert gpu.name == "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M"
    assert gpu.ids == ("0000:03:00.0", "GPU-3f9d1c2b7a5e4d60", "3f9d1c2b7a5e4d60")
    assert gpu.read() == pytest.approx(
        {
            "gpu_utilization": 63.0,
            "memory_utilization": 22.0,
            "device_used_mib": 5120.0,
            "device_total_mib": 24560.0,
            "power_w": 213.0,
            "power_limit_w": 303.0,
            "temperature_c": 57.0,
            "fan_percent": 40.0,
            "fan_rpm": 1187.0,
            "clock_mhz": 2371.0,
            "memory_clock_mhz": 1249.0,
        }
    )


def test_amd_processes_count_each_client_once_and_compute_from_its_own_count(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_rx7900xtx", tmp_path))
    # 4800: client 51 through two descriptors, client 52 through one. 4711: 16 MiB by fdinfo, 2 GiB by kfd.
    assert gpu.processes() == {4800: 1024.0 + 64.0, 4711: 2048.0}


def test_amd_compute_card_without_fan_or_edge_sensor(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_mi300x", tmp_path))
    assert gpu.name == "AMD Instinct MI300X"
    reading = gpu.read()
    assert reading["power_w"] == pytest.approx(548.0)
    assert reading["temperature_c"] == pytest.approx(66.0)
    assert not {"fan_percent", "fan_rpm", "clock_mhz", "power_limit_w"} & set(reading)
    assert gpu.processes() == {991234: 92160.0}


def test_amd_card_that_sleeps_or_vanishes_leaves_gaps(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_rx7900xtx", tmp_path))
    (tmp_path / "sys/class/drm/card1/device/gpu_busy_percent").write_text("")
    (tmp_path / "sys/class/drm/card1/device/mem_info_vram_used").unlink()
    reading = gpu.read()
    assert "gpu_utilization" not in reading and "device_used_mib" not in reading
    assert reading["device_total_mib"] == 24560.0
