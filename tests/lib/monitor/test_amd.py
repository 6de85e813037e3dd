"""AMD's devices from recorded trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.monitor import amd
from lib.monitor.discovery import named
from tests.helpers.gpu_recordings import unpack, write


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


def test_amd_apu_counts_the_host_memory_that_it_computes_in(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_apu", tmp_path))
    reading = gpu.read()
    assert reading["device_used_mib"] == 256 + 40 * 1024
    assert reading["device_total_mib"] == 512 + 63488
    assert gpu.processes() == {900: 128 + 40 * 1024}


def test_amd_partitions_of_a_card_are_devices_with_processes_of_their_own(tmp_path: Path) -> None:
    gpus = amd.find(unpack("amd_mi300x_cpx", tmp_path))
    assert [(gpu.index, gpu.name) for gpu in gpus] == [
        (number, f"AMD Instinct MI300X partition {number}") for number in range(3)
    ]
    assert [gpu.processes() for gpu in gpus] == [{700: 4096.0}, {}, {701: 8192.0}]
    for gpu in gpus:
        reading = gpu.read()
        assert reading["device_total_mib"] == 24574.0
        assert reading["power_w"] == 310.0  # of the whole card
        # the driver tells these of the whole card alone
        assert not {"device_used_mib", "gpu_utilization"} & set(reading)
    assert named(gpus, "GPU-123456789abcdef1") is gpus[1]
    # an older kernel puts the number of the partition in the place of the PCI function
    for node, place in (("2", 0xC101), ("3", 0xC102)):
        file = tmp_path / "sys/class/kfd/kfd/topology/nodes" / node / "properties"
        file.write_text(f"drm_render_minor 999\nlocation_id {place}\ndomain 0\n")
    assert [gpu.processes() for gpu in amd.find(tmp_path)] == [{700: 4096.0}, {}, {701: 8192.0}]


def test_amd_card_in_suspend_is_not_read(tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_rx7900xtx", tmp_path))
    write(tmp_path, "sys/class/drm/card1/device/power/runtime_status", "suspended")
    assert gpu.read() == {}
    write(tmp_path, "sys/class/drm/card1/device/power/runtime_status", "active")
    assert gpu.read()["power_w"] == 213.0


@pytest.mark.parametrize("place", ["/dev/gpu0", "/dev/dri/card0"])
def test_process_is_found_whatever_a_container_calls_the_render_node(place: str, tmp_path: Path) -> None:
    (gpu,) = amd.find(unpack("amd_apu", tmp_path))
    (tmp_path / "proc/900/fd/7").unlink()
    write(tmp_path, "proc/900/fd/7", "", place)
    assert gpu.processes() == {900: 128 + 40 * 1024}
