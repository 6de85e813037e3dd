"""How many runs share a GPU."""

from __future__ import annotations

import pytest

from lib.memory_estimate import gpu_packing
from lib.monitor import discovery, nvidia
from tests.helpers.fake_nvml import FakeNvml, device
from tests.helpers.tiny_runs import tiny as config

MIB = 2**20


def test_runs_share_a_gpu_only_as_far_as_the_largest_of_them_fit_together() -> None:
    context = gpu_packing.CONTEXT_MIB
    need = context + 950 / (1 - gpu_packing.FRAGMENTATION)  # 1000 MiB with fragmentation
    assert need == context + 1000
    assert gpu_packing.count_that_fit([950] * 8, 2 * need) == 2
    assert gpu_packing.count_that_fit([950] * 8, 2 * need - 1) == 1
    assert gpu_packing.count_that_fit([950, 10, 10], 3400) == 2  # the largest, and one small one
    assert gpu_packing.count_that_fit([950] * 8, 10) == 1  # one is tried all the same
    assert gpu_packing.count_that_fit([1] * 100, 1e6) == gpu_packing.MAX_RUNS


def test_matrix_runner_learns_it_from_a_process_of_its_own() -> None:
    runs = [config(), config("adamwprune", "state")]
    assert gpu_packing.runs_per_gpu(runs, 16_000) == 2
    assert gpu_packing.runs_per_gpu(runs, 700) == 1
    assert gpu_packing.runs_per_gpu(runs[:1], 16_000) == 1


def test_sharing_falls_back_to_one_run_where_nothing_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_packing.sys, "executable", "/bin/false")
    assert gpu_packing.runs_per_gpu([config(), config("sgd")], 16_000) == 1


def test_free_memory_is_that_of_the_gpu_that_torch_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = device(uuid="GPU-1", total=8000 * MIB, used=1500 * MIB), device(uuid="GPU-2")
    nvml = FakeNvml(large, small)
    monkeypatch.setattr(discovery, "find", lambda: nvidia.find(nvml))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_packing.free_mib() == 6500.0
    nvml.dead = True
    assert gpu_packing.free_mib() is None
    monkeypatch.setattr(discovery, "find", list)
    assert gpu_packing.free_mib() is None
