"""The host's side: memory, process trees, a watched process."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lib.monitor.host import Host, Watched, cores
from lib.storage.project import ROOT
from tests.helpers.fake_nvml import MIB
from tests.helpers.gpu_recordings import unpack, write


def test_process_of_a_recorded_tree_is_watched_there_and_not_on_this_machine(tmp_path: Path) -> None:
    write(tmp_path, f"proc/{os.getpid()}/stat", f"{os.getpid()} (python3) S 1")
    watched = Watched(os.getpid(), Host(tmp_path))
    assert not watched.gone and watched.handle is None
    assert Host(tmp_path).memory_mib() == {}  # a gap, not this machine's


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


@pytest.mark.parametrize(
    ("cmdline", "name"),
    [
        ("/usr/bin/python3\0train.py\0--lr\0", "python3 train.py"),
        ("/opt/my tools/python3\0/home/x y/train.py\0", "python3 train.py"),
        ("trainer: rank 3/8\0\0\0", "trainer: rank 3/8"),
        ("ray::IDLE worker\0", "ray::IDLE worker"),
        (
            "nginx: master process /usr/sbin/nginx -g daemon off;\0",
            "nginx: master process /usr/sbin/nginx -g daemon off;",
        ),
        ("/opt/chrome/chrome --type=gpu-process --dir=/tmp/a\0", "chrome"),
        ("-bash\0", "-bash"),
        ("", "kworker/3:1"),
    ],
)
def test_a_process_is_called_by_its_title_or_its_program(cmdline: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "cmdline").write_text(cmdline)
    (folder / "comm").write_text("kworker/3:1\n")
    assert Host(tmp_path).name(7) == name


# --- cores ----------------------------------------------------------------------------------------------------

V2 = {"proc/self/cgroup": "0::/"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/\n0::/"}


def v1(quota: int, group: str = "") -> dict[str, str]:
    return {
        f"sys/fs/cgroup/cpu{group}/cpu.cfs_{name}_us": str(us) for name, us in (("quota", quota), ("period", 100_000))
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16),
        (V2 | {"sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        (V2 | {"sys/fs/cgroup/cpu.max": "3200000 100000"}, 16),  # more than the machine has
        (V2 | {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        (V2 | {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),  # half a core
        (V2 | {"sys/fs/cgroup/cpu.max": "not a number"}, 16),
        # without a namespace of its own the group lies below the machine's: the least of all around it counts
        ({"proc/self/cgroup": "0::/batch/job7", "sys/fs/cgroup/batch/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": "0::/batch/job7",
                "sys/fs/cgroup/batch/cpu.max": "300000 100000",
                "sys/fs/cgroup/batch/job7/cpu.max": "200000 100000",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/../other", "sys/fs/cgroup/cpu.max": "500000 100000"}, 5),
        (V1 | v1(-1), 16),
        (V1 | v1(600_000), 6),
        # the path is the machine's, the mount is the container's
        ({"proc/self/cgroup": "5:cpu,cpuacct:/docker/8af\n0::/"} | v1(700_000), 7),
        ({"proc/self/cgroup": "5:cpu,cpuacct:/slurm/job_3"} | v1(-1) | v1(800_000, "/slurm/job_3"), 8),
    ],
)
def test_cores_are_those_of_the_affinity_within_the_quota_of_a_container(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    for name, text in files.items():
        write(tmp_path, name, text)
    assert cores(tmp_path) == expected


def test_cores_of_an_affinity_narrower_than_the_quota_are_the_affinitys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "800000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 9})
    assert cores(tmp_path) == 2


def test_cores_are_counted_in_one_place() -> None:
    counting = re.compile(r"cpu_count|sched_getaffinity|ThreadPoolExecutor\(\)")
    files = [path for folder in ("lib", "scripts", "lenet5", "resnet18") for path in (ROOT / folder).rglob("*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in files if counting.search(path.read_text())]
    assert found == ["lib/monitor/host.py"]
