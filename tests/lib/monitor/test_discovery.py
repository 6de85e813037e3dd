"""Which devices are found and shown, and how they are named: by number, UUID, part and vendor."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.monitor import nvidia
from lib.monitor.devices import label
from lib.monitor.discovery import find, hidden, named, visible
from tests.helpers.fake_nvml import MIB, FakeNvml, device
from tests.helpers.gpu_recordings import unpack, write


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, ["GPU-11", "GPU-12", "GPU-20"]),
        ("0", ["GPU-11"]),
        ("2,0", ["GPU-20", "GPU-11"]),
        ("GPU-20", ["GPU-20"]),
        ("gpu-2,1", ["GPU-20", "GPU-12"]),
        ("GPU-1", []),  # two begin so
        ("0,7,1", ["GPU-11"]),  # CUDA stops at the first that is not there
        ("-1", []),
        ("", []),
    ],
)
def test_cuda_visible_devices_names_physical_devices(value: str | None, seen: list[str]) -> None:
    gpus = find(Path("/nowhere"), FakeNvml(*(device(uuid=f"GPU-{n}", bus="x") for n in (11, 12, 20))))
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert [gpu.ids[0] for gpu in visible(gpus, environ)] == seen


def test_mig_part_is_found_by_its_uuid_its_number_and_nothing_ambiguous() -> None:
    parts = [{"uuid": f"MIG-{letter}", "used": MIB, "total": 9 * MIB} for letter in ("aa11", "ab22")]
    gpus = find(Path("/nowhere"), FakeNvml(device(parts=parts), device(uuid="GPU-2")))
    assert [label(gpu, gpus) for gpu in gpus] == ["0:0", "0:1", 1]
    for wanted, seen in (
        ("MIG-aa11", ["MIG-aa11"]), ("mig-ab", ["MIG-ab22"]), ("MIG-ab22,MIG-aa11", ["MIG-ab22", "MIG-aa11"]),
        ("MIG-a", []), ("0", ["MIG-aa11"]), ("1", ["GPU-2"]), ("1,1", ["GPU-2"]), ("0:1", ["MIG-ab22"]), ("²", []),
    ):  # fmt: skip
        assert [gpu.ids[0] for gpu in visible(gpus, {"CUDA_VISIBLE_DEVICES": wanted})] == seen, wanted


def test_devices_of_two_vendors_with_the_same_number_are_told_apart(tmp_path: Path) -> None:
    gpus = find(unpack("intel_b580_xe", tmp_path), FakeNvml(device()))
    assert [label(gpu, gpus) for gpu in gpus] == ["nvidia:0", "intel:0", 1]
    assert label(gpus[0], gpus[:1]) == 0
    assert [named(gpus, wanted) for wanted in ("intel:0", "Intel:1", "0")] == [gpus[1], gpus[2], gpus[0]]


def test_intels_mask_may_name_tiles_of_a_card(tmp_path: Path) -> None:
    gpus = find(unpack("intel_b580_xe", tmp_path))
    for mask, seen in (("1.0,1.1", [1]), ("1", [1]), ("0.0,1", [0, 1])):
        assert [gpu.index for gpu in visible(gpus, {"ZE_AFFINITY_MASK": mask})] == seen


def test_hidden_devices_are_named_with_what_hides_them() -> None:
    gpus = find(Path("/nowhere"), FakeNvml(device()))
    assert hidden(gpus, {}) is None and hidden(gpus, {"CUDA_VISIBLE_DEVICES": "0"}) is None
    assert hidden([], {"CUDA_VISIBLE_DEVICES": ""}) is None
    told = hidden(gpus, {"CUDA_VISIBLE_DEVICES": "7"}) or ""
    assert told.startswith("hidden by CUDA_VISIBLE_DEVICES='7': 0 NVIDIA H100")


def test_recorded_tree_is_never_mixed_with_the_devices_of_this_machine(tmp_path: Path) -> None:
    notes: list[str] = []
    assert find(unpack("amd_mi300x", tmp_path), None, notes)[0].vendor == "amd"
    assert notes == [] and not nvidia.has_device(tmp_path)


def test_all_vendors_together(tmp_path: Path) -> None:
    unpack("amd_mi300x", tmp_path)
    gpus = find(unpack("intel_a770_i915", tmp_path), FakeNvml(device()))
    assert [(gpu.vendor, gpu.index) for gpu in gpus] == [("nvidia", 0), ("amd", 0), ("intel", 0)]


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({"ROCR_VISIBLE_DEVICES": "0,1,2,3", "HIP_VISIBLE_DEVICES": "3"}, [3]),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, [3]),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "0"}, [3]),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2"}, []),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "1,0"}, [3, 2]),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-00000000000000c2,0", "HIP_VISIBLE_DEVICES": "1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "0"}, []),
    ],
)
def test_hip_counts_within_what_rocr_leaves(environ: dict[str, str], seen: list[int], tmp_path: Path) -> None:
    for number in range(4):
        device_folder = f"sys/class/drm/card{number}/device"
        write(tmp_path, f"{device_folder}/vendor", "0x1002")
        write(tmp_path, f"{device_folder}/uevent", f"DRIVER=amdgpu\nPCI_SLOT_NAME=0000:c{number}:00.0")
        write(tmp_path, f"{device_folder}/unique_id", f"00000000000000c{number}")
    assert [gpu.index for gpu in visible(find(tmp_path), environ)] == seen


def test_all_variables_that_hide_devices_are_named(tmp_path: Path) -> None:
    gpus = find(unpack("amd_mi300x", tmp_path))
    sentence = hidden(gpus, {"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}) or ""
    assert "ROCR_VISIBLE_DEVICES='0' and HIP_VISIBLE_DEVICES='1'" in sentence
