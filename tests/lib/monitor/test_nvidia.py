"""NVIDIA's devices from a fake NVML: readings are in their units, and what is refused stays a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.monitor import nvidia
from lib.monitor.devices import READINGS
from lib.monitor.discovery import named
from tests.helpers.fake_nvml import MIB, FakeNvml, device, process
from tests.helpers.gpu_recordings import write


def test_nvidia_readings_are_in_the_units_they_are_named_for() -> None:
    (gpu,) = nvidia.find(FakeNvml(device(fan=35)))
    assert gpu.name == "NVIDIA H100 80GB HBM3"
    assert gpu.read() == {
        "gpu_utilization": 87.0,
        "memory_utilization": 41.0,
        "device_used_mib": 20_000.0,
        "device_total_mib": 81_559.0,
        "power_w": 412.345,
        "power_limit_w": 700.0,
        "temperature_c": 61.0,
        "fan_percent": 35.0,
        "clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
    }
    assert set(gpu.read()) <= set(READINGS)


def test_nvidia_query_that_is_refused_is_left_out_and_costs_no_other() -> None:
    (gpu,) = nvidia.find(FakeNvml(device()))
    assert "fan_percent" not in gpu.read()  # passively cooled
    whole = set(gpu.read())
    for missing, lost in (
        ("load", {"gpu_utilization", "memory_utilization"}),
        ("power", {"power_w"}),
        ("limit", {"power_limit_w"}),
        ("temperature", {"temperature_c"}),
        ("clocks", {"clock_mhz", "memory_clock_mhz"}),
        ("total", {"device_used_mib", "device_total_mib"}),
    ):
        spoiled = device()
        del spoiled[missing]
        (gpu,) = nvidia.find(FakeNvml(spoiled))
        assert whole - set(gpu.read()) == lost, missing


def test_nvidia_memory_used_leaves_out_what_the_driver_reserves_where_it_says() -> None:
    reserved = device(reserved=600 * MIB)
    assert nvidia.find(FakeNvml(reserved))[0].read()["device_used_mib"] == 20_000
    old = FakeNvml(reserved, second_version=False)
    assert nvidia.find(old)[0].read()["device_used_mib"] == 20_600


def test_nvidia_unified_memory_has_no_pool_to_report_but_its_processes_are_known() -> None:
    spark = device(name="NVIDIA GB10", compute=[process(7, 900)])
    del spark["used"], spark["total"]
    (gpu,) = nvidia.find(FakeNvml(spark))
    assert not {"device_used_mib", "device_total_mib"} & set(gpu.read())
    assert gpu.processes() == {7: 900.0}


def test_nvidia_driver_that_dies_leaves_gaps_never_zeros() -> None:
    nvml = FakeNvml(device(compute=[process(7, 900)]))
    (gpu,) = nvidia.find(nvml)
    assert gpu.read() and gpu.processes()
    nvml.dead = True
    assert gpu.read() == {}
    assert gpu.processes() == {}


def test_nvidia_lost_device_does_not_take_the_others_with_it() -> None:
    broken, fine = device(), device(uuid="GPU-2", temperature=40)
    gpus = nvidia.find(FakeNvml(broken, fine))
    broken["lost"] = True
    assert gpus[0].read() == {}
    assert gpus[1].read()["temperature_c"] == 40


def test_nvidia_process_sizes_that_are_not_known_are_none() -> None:
    used = [process(1, 500), process(2, None), process(3, 0)]
    (gpu,) = nvidia.find(FakeNvml(device(compute=used, graphics=[process(1, 500), process(4, 30)])))
    # 1 computes and draws with the same bytes; 3 is what drivers answer in containers
    assert gpu.processes() == {1: 500.0, 2: None, 3: None, 4: 30.0}


def test_nvidia_mig_parts_stand_in_for_the_device_they_are_cut_from() -> None:
    part = {"uuid": "MIG-aaaa", "used": 1000 * MIB, "total": 9856 * MIB, "compute": [process(9, 700)]}
    gpus = nvidia.find(FakeNvml(device(parts=[part, None, {**part, "uuid": "MIG-bbbb"}]), device(uuid="GPU-2")))
    assert [gpu.name for gpu in gpus][:2] == ["NVIDIA H100 80GB HBM3 MIG 0", "NVIDIA H100 80GB HBM3 MIG 2"]
    assert [gpu.index for gpu in gpus] == [0, 0, 1]
    reading = gpus[0].read()
    assert reading["device_total_mib"] == 9856  # its own
    assert reading["power_w"] == pytest.approx(412.345)  # the whole device's
    assert "gpu_utilization" not in reading  # NVML does not tell it for parts
    assert gpus[0].processes() == {9: 700.0}
    assert named(list(gpus), "MIG-bbbb") is gpus[1]


def test_nvidia_without_driver_or_device_is_no_error(tmp_path: Path) -> None:
    notes: list[str] = []
    assert nvidia.find(FakeNvml(init_fails=True), notes=notes) == []
    assert "mismatch" in notes[0]
    (tmp_path / "proc").mkdir()
    assert nvidia.find(None, tmp_path) == []


def test_nvidia_device_in_suspend_is_neither_looked_for_nor_read(tmp_path: Path) -> None:
    card, sound = (f"sys/bus/pci/devices/0000:1b:00.{number}" for number in (0, 1))
    for path, kind, state in ((card, "0x030000", "suspended"), (sound, "0x040300", "active")):
        write(tmp_path, f"{path}/vendor", "0x10de")
        write(tmp_path, f"{path}/class", kind)
        write(tmp_path, f"{path}/power/runtime_status", state)
    nvml, notes = FakeNvml(device(compute=[process(7, 900)])), []
    assert nvidia.find(nvml, tmp_path, notes, wake=False) == [] and nvml.queries == 0
    assert "sleeps" in notes[0] and "--gpu 0" in notes[0]
    (gpu,) = nvidia.find(nvml, tmp_path)
    before = nvml.queries
    assert (gpu.read(), gpu.processes(), nvml.queries) == ({}, {}, before)
    write(tmp_path, f"{card}/power/runtime_status", "active")
    assert gpu.read()["power_w"] == pytest.approx(412.345) and gpu.processes() == {7: 900.0}
    assert nvidia.find(nvml, tmp_path, wake=False)
