"""Every vendor's devices, from recorded trees of files and a fake NVML: figures are right, gaps stay gaps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lib.monitor import amd, intel, nvidia
from lib.monitor.devices import READINGS, find, named
from lib.monitor.host import Host
from tests.helpers.fake_nvml import MIB, FakeNvml, device, process
from tests.helpers.gpu_recordings import unpack, write


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that the test moves: clock[0], in seconds."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


# --- NVIDIA ---------------------------------------------------------------------------------------------------


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


def test_recorded_tree_is_never_mixed_with_the_devices_of_this_machine(tmp_path: Path) -> None:
    notes: list[str] = []
    assert find(unpack("amd_mi300x", tmp_path), None, notes)[0].vendor == "amd"
    assert notes == [] and not nvidia.has_device(tmp_path)


def test_nvidia_without_driver_or_device_is_no_error(tmp_path: Path) -> None:
    notes: list[str] = []
    assert nvidia.find(FakeNvml(init_fails=True), notes=notes) == []
    assert "mismatch" in notes[0]
    (tmp_path / "proc").mkdir()
    assert nvidia.find(None, tmp_path) == []


# --- AMD ------------------------------------------------------------------------------------------------------


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


# --- Intel ----------------------------------------------------------------------------------------------------


def test_intel_i915_card_is_read_from_its_files(tmp_path: Path, clock: list[float]) -> None:
    (gpu,) = intel.find(unpack("intel_a770_i915", tmp_path))
    first = gpu.read()
    assert first["device_total_mib"] == 16280.0
    assert first["device_used_mib"] == 2048.0
    assert first["temperature_c"] == 49.0
    assert first["power_limit_w"] == 190.0
    assert first["clock_mhz"] == 2050.0
    # nothing to compare with yet, so neither is known
    assert "power_w" not in first and "gpu_utilization" not in first
    assert gpu.processes() == {501: 1536.0}  # local memory only

    clock[0] += 2.0
    write(tmp_path, "sys/class/drm/card0/device/hwmon/hwmon2/energy1_input", "390000000")
    fdinfo = tmp_path / "proc/501/fdinfo/4"
    fdinfo.write_text(fdinfo.read_text().replace("compute: 5000000000", "compute: 6000000000"))
    second = gpu.read()
    assert second["power_w"] == pytest.approx(150.0)  # 300 J in 2 s
    assert second["gpu_utilization"] == pytest.approx(50.0)  # 1 s of 2 s


def test_intel_xe_load_comes_from_cycles_and_is_shared_by_the_engines(tmp_path: Path, clock: list[float]) -> None:
    integrated, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    first = gpu.read()
    assert first["device_total_mib"] == 12288.0
    assert "device_used_mib" not in first  # xe tells no such thing
    assert first["temperature_c"] == 52.0
    assert "power_limit_w" not in first  # 0 means that there is no limit
    assert first["clock_mhz"] == 2850.0
    assert gpu.processes() == {777: pytest.approx(23992 / 1024)}

    clock[0] += 1.0
    fdinfo = tmp_path / "proc/777/fdinfo/9"
    text = fdinfo.read_text().replace("total-cycles-ccs:\t100000", "total-cycles-ccs:\t200000")
    fdinfo.write_text(text.replace("drm-cycles-ccs:\t20000", "drm-cycles-ccs:\t220000"))
    # 200,000 busy cycles while 100,000 passed on each of 4 engines
    assert gpu.read()["gpu_utilization"] == pytest.approx(50.0)
    assert gpu.read({777})["process_utilization"] == 0.0
    assert integrated.read()["clock_mhz"] == 300.0
    assert "device_total_mib" not in integrated.read()


def test_memory_and_load_of_a_file_shared_after_a_fork_count_once(tmp_path: Path, clock: list[float]) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    fdinfo = tmp_path / "proc/777/fdinfo/9"
    for worker in (4000, 80, 4001):  # two workers of a data loader, and a process number that wrapped around
        write(tmp_path, f"proc/{worker}/fd/9", "", "/dev/dri/renderD129")
        write(tmp_path, f"proc/{worker}/fdinfo/9", fdinfo.read_text())
    gpu.read()
    assert sum(size or 0.0 for size in gpu.processes().values()) == pytest.approx(23992 / 1024)
    assert gpu.processes({777, 4000, 4001}) == {777: pytest.approx(23992 / 1024)}
    clock[0] += 1.0
    for worker in (777, 4000, 80, 4001):
        text = fdinfo.read_text().replace("total-cycles-ccs:\t100000", "total-cycles-ccs:\t200000")
        (tmp_path / f"proc/{worker}/fdinfo/9").write_text(text.replace("cycles-ccs:\t20000\n", "cycles-ccs:\t60000\n"))
    assert gpu.read()["gpu_utilization"] == pytest.approx(10.0)


def test_intel_load_of_the_device_is_unknown_when_some_users_cannot_be_seen(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    gpu.read()
    clock[0] += 1.0
    from lib.monitor import drm

    listdir = drm.os.listdir

    def guarded(path: Any) -> list[str]:
        if "/proc/1/" in f"{path}/":
            raise PermissionError(path)
        return listdir(path)

    (tmp_path / "proc/1/fd").mkdir(parents=True)
    monkeypatch.setattr(drm.os, "listdir", guarded)
    assert "gpu_utilization" not in gpu.read()


def test_all_vendors_together(tmp_path: Path) -> None:
    unpack("amd_mi300x", tmp_path)
    gpus = find(unpack("intel_a770_i915", tmp_path), FakeNvml(device()))
    assert [(gpu.vendor, gpu.index) for gpu in gpus] == [("nvidia", 0), ("amd", 0), ("intel", 0)]


# --- the host -------------------------------------------------------------------------------------------------


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
