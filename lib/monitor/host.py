"""Read the host's side: cores, memory and process trees, from the files of the Linux kernel.

`root` may be a recorded tree of files, and only these are read then. Where there is no /proc (macOS), psutil answers.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

from .devices import MIB

# The inode number of the machine's first process namespace, fixed in the kernel (PROC_PID_INIT_INO).
FIRST_PID_NAMESPACE = "pid:[4026531836]"


def read_text(path: Path) -> str | None:
    """Return the content of a small file, or None where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """Return the number in a file of one number, or None."""
    text = read_text(path)
    with contextlib.suppress(ValueError, TypeError):
        return float(text)  # type: ignore[arg-type]
    return None


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: its affinity, and the CPU time its container grants. At least 1.

    More threads than that do not compute more: the kernel stops them all for the rest of each period of the quota.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *cpu_quotas(root)])))


def cpu_quotas(root: Path = Path("/")) -> Iterator[float]:
    """Yield how many cores each control group around this process grants; those without a limit are left out.

    Formats: Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst of the kernel.
    """
    mounts = root / "sys/fs/cgroup"
    for line in (read_text(root / "proc/self/cgroup") or "0::/").splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue  # a hierarchy of version 1 for something else
        folder = mounts / "cpu" if controllers else mounts
        # A container may be told its group's path as the machine sees it: folders that its own mount does not have.
        names = [name for name in group.split("/") if name not in ("", "..")]
        for name in ["", *names]:
            folder = folder / name
            granted = read_quota_v1(folder) if controllers else read_quota_v2(folder)
            if granted is not None:
                yield granted


def read_quota_v1(group: Path) -> float | None:
    """Return the cores that a control group of version 1 grants; None without a limit (a quota of -1)."""
    quota, period = read_number(group / "cpu.cfs_quota_us"), read_number(group / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def read_quota_v2(group: Path) -> float | None:
    """Return the cores that a control group of version 2 grants; None without a limit ("max")."""
    quota, _, period = (read_text(group / "cpu.max") or "").partition(" ")
    with contextlib.suppress(ValueError, ZeroDivisionError):
        return float(quota) / float(period)
    return None


class Host:
    """Memory and processes of the machine whose /proc lies under `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.proc = root / "proc"
        self.live = root.resolve() == Path("/")
        self.has_proc = not self.live or (self.proc / "meminfo").exists()
        self.page = os.sysconf("SC_PAGE_SIZE")

    def tree(self, pid: int) -> list[int]:
        """Return `pid` and all of its descendants, this program and its own children left out."""
        if not self.has_proc:
            return self._tree_from_psutil(pid)
        found, queue = [], [pid]
        while queue:
            current = queue.pop()
            if current == os.getpid() or current in found:
                continue
            found.append(current)
            # A child belongs to the thread that started it.
            for children in (self.proc / str(current) / "task").glob("*/children"):
                queue += [int(child) for child in (read_text(children) or "").split()]
        return found

    def tree_rss_mib(self, pid: int) -> float | None:
        """Return the resident memory of the process tree, MiB. Pages that its processes share count once for each."""
        sizes = [size for member in self.tree(pid) if (size := self.rss_mib(member)) is not None]
        return sum(sizes) if sizes else None

    def rss_mib(self, pid: int) -> float | None:
        """Return the resident memory of one process, MiB; None when it is gone."""
        if not self.has_proc:
            return self._rss_from_psutil(pid)
        fields = (read_text(self.proc / str(pid) / "statm") or "").split()
        # A zombie holds no memory any more and shows zeros.
        return int(fields[1]) * self.page / MIB if len(fields) > 1 and fields[0] != "0" else None

    def memory_mib(self) -> dict[str, float]:
        """Return `host_used_mib` and `host_total_mib`; used is what is not available to a new program."""
        values: dict[str, float] = {}
        for line in (read_text(self.proc / "meminfo") or "").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                values[name] = int(rest.split()[0]) / 1024
        if len(values) == 2:
            return {
                "host_used_mib": values["MemTotal"] - values["MemAvailable"],
                "host_total_mib": values["MemTotal"],
            }
        return {} if self.has_proc else self._memory_from_psutil()

    def name(self, pid: int) -> str | None:
        """Return what a process is called, or None when it cannot be seen: its title, or its program and script."""
        words = (read_text(self.proc / str(pid) / "cmdline") or "").split("\0")
        if not words[0]:
            return (read_text(self.proc / str(pid) / "comm") or "").strip() or None
        if is_title(words[0]):
            return words[0].strip()
        # Some programs write all of their arguments into the first word.
        program = Path(words[0].partition(" -")[0]).name
        script = next((Path(word).name for word in words[1:] if word.endswith(".py")), "")
        return f"{program} {script}".strip()

    def exists(self, pid: int) -> bool:
        """Return whether the process is there and not merely waiting to be collected by its parent."""
        if not self.has_proc:
            return self._rss_from_psutil(pid) is not None
        stat = read_text(self.proc / str(pid) / "stat")
        return stat is not None and stat.rpartition(")")[2].split()[:1] not in (["Z"], ["X"])

    def in_container(self) -> bool:
        """Return whether process numbers here are those of a container, not the machine's."""
        with contextlib.suppress(OSError):
            return str((self.proc / "self/ns/pid").readlink()) != FIRST_PID_NAMESPACE
        return False

    @staticmethod
    def _tree_from_psutil(pid: int) -> list[int]:
        import psutil

        with contextlib.suppress(psutil.Error):
            members = psutil.Process(pid).children(recursive=True)
            return [pid, *(child.pid for child in members if child.pid != os.getpid())]
        return []

    @staticmethod
    def _rss_from_psutil(pid: int) -> float | None:
        import psutil

        with contextlib.suppress(psutil.Error):
            return float(psutil.Process(pid).memory_info().rss) / MIB
        return None

    @staticmethod
    def _memory_from_psutil() -> dict[str, float]:
        import psutil

        memory = psutil.virtual_memory()
        return {
            "host_used_mib": (memory.total - memory.available) / MIB,
            "host_total_mib": memory.total / MIB,
        }


def is_title(word: str) -> bool:
    """Return whether a command line begins with a title ("trainer: rank 3/8"), which a process gave itself."""
    return " " in word and (": " in word or not word.startswith(("/", "./", "../")))


class Watched:
    """A process that is waited for.

    A new process that got the same number is not mistaken for it: the kernel's handle is to the process.
    """

    def __init__(self, pid: int, host: Host) -> None:
        self.pid, self.host = pid, host
        self.handle: int | None = None
        self.gone = not host.exists(pid)
        # Of a recorded tree the kernel knows nothing, though it may have a process of that number.
        if host.live:
            with contextlib.suppress(AttributeError, OSError):
                self.handle = os.pidfd_open(pid)

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`, or until the process ends; return whether it lives."""
        deadline = time.monotonic() + seconds
        while not self.gone:
            left = max(0.0, deadline - time.monotonic())
            if self.handle is not None:
                ended, _, _ = select.select([self.handle], [], [], left)
                self.gone = bool(ended)
            else:
                time.sleep(min(left, 0.5))
                self.gone = not self.host.exists(self.pid)
            if time.monotonic() >= deadline:
                break
        return not self.gone
