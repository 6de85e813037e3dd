"""Intel's devices from recorded trees of files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lib.monitor import intel
from tests.helpers.gpu_recordings import unpack, write


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that the test moves: clock[0], in seconds."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


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


@pytest.mark.parametrize("card", [None, "0"])
def test_intel_power_of_a_card_that_counts_the_package_alone(
    card: str | None, tmp_path: Path, clock: list[float]
) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    sensors = tmp_path / "sys/class/drm/card1/device/hwmon/hwmon3"
    (sensors / "energy1_input").unlink()
    if card is not None:
        (sensors / "energy1_input").write_text(card)
    (sensors / "energy2_input").write_text("1000000")
    assert "power_w" not in gpu.read()
    clock[0] += 2.0
    (sensors / "energy2_input").write_text("181000000")
    assert gpu.read()["power_w"] == pytest.approx(90.0)


def test_intel_counter_that_stays_zero_is_a_gap(tmp_path: Path, clock: list[float]) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    (tmp_path / "sys/class/drm/card1/device/hwmon/hwmon3/energy1_input").write_text("0")
    gpu.read()
    clock[0] += 1.0
    assert "power_w" not in gpu.read()


@pytest.mark.parametrize(
    ("limits", "watts"),
    [
        ({"power1_max": 0, "power1_cap": 220_000_000}, 220.0),  # Battlemage
        ({"power1_max": 0, "power2_max": 190_000_000}, 190.0),
        ({"power1_max": 150_000_000, "power1_cap": 220_000_000, "power2_max": 140_000_000}, 150.0),
        ({"power1_max": 0, "power1_cap": 0, "power2_max": 0}, None),
    ],
)
def test_intel_power_limit_is_the_first_set(limits: dict[str, int], watts: float | None, tmp_path: Path) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    for name, microwatts in limits.items():
        (tmp_path / "sys/class/drm/card1/device/hwmon/hwmon3" / name).write_text(str(microwatts))
    assert gpu.read().get("power_limit_w") == watts


def test_intel_card_in_suspend_tells_its_size_alone(tmp_path: Path, clock: list[float]) -> None:
    _, gpu = intel.find(unpack("intel_b580_xe", tmp_path))
    gpu.read()
    write(tmp_path, "sys/class/drm/card1/device/power/runtime_status", "suspended")
    clock[0] += 1.0
    assert gpu.read() == {"device_total_mib": 12288.0}
