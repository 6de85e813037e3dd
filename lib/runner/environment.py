"""What machine, versions and code a matrix ran on. Nothing here imports torch: it must be quick."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..monitor.host import cores

PACKAGES = (
    "torch", "torchvision", "numpy", "matplotlib", "kconfiglib", "PyYAML", "psutil", "nvidia-ml-py", "rich",
    "safetensors", "mlxtend",
)  # fmt: skip


def gpus() -> list[str]:
    """Names of the GPUs that torch's device "cuda" can mean here (NVIDIA, AMD)."""
    from ..monitor import discovery

    devices = discovery.visible(discovery.find(), os.environ)
    return [device.name for device in devices if device.vendor in ("nvidia", "amd")]


def version(package: str) -> str | None:
    """The installed version of a package, None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def torch_build() -> dict[str, str]:
    """What torch says of itself in its version.py, read without importing it: version, cuda, hip where built in."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return {}
    return dict(re.findall(r"^(__version__|cuda|hip)\b[^=\n]*= *'([^']+)'", text, re.MULTILINE))


def why_no_cuda() -> str | None:
    """Why DEVICE=cuda cannot work here, as part of a sentence; None if nothing speaks against it."""
    torch = torch_build()
    if torch and not {"cuda", "hip"} & torch.keys():
        return f"torch {torch.get('__version__')} is built for CPUs only"
    if gpus():
        return None
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in os.environ:
            return f"there is no GPU, or {name}={os.environ[name]!r} hides it"
    return "there is no GPU"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def git_state(root: Path) -> dict[str, Any]:
    """The commit the code is at and whether it was changed since; None where there is no git."""
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _cpu_name() -> str | None:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or None


def describe(root: Path) -> dict[str, Any]:
    """The record kept as environment.json."""
    import psutil

    names = gpus()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "device": names[0] if names else _cpu_name(),
        "gpus": names,
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES}
        | {"torch" if name == "__version__" else name: value for name, value in torch_build().items()},
        "git": git_state(root),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if re.match(r"(CUDA|HIP|ROCR|OMP|MKL|NCCL|TORCH|PYTORCH|XLA)_", name)
        },
    }
