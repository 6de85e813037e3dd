"""Recordings of devices: trees of /sys and /proc to read from, and samples as gputop writes them.

A tree is one text file that holds a small tree of files and links:
`=== path` begins a file, `=== path -> target` is a link, lines before the first are remarks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"


def unpack(name: str, root: Path) -> Path:
    """Write the tree of recording `name` below `root`; returns `root`."""
    text = (FOLDER / f"{name}.txt").read_text()
    for part in text.split("\n=== ")[1:]:
        head, _, body = part.partition("\n")
        path, _, target = head.partition(" -> ")
        write(root, path, body, target)
    return root


def write(root: Path, path: str, body: str, target: str = "") -> None:
    """One file or link of a tree; words of a command line are separated as the kernel does it."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if target:
        file.symlink_to(target)
    else:
        file.write_text(body.replace(" ", "\0") if file.name == "cmdline" else body + "\n")


def sample(at: float, phase: str | None = "train", gpu: int | None = 0, **more: Any) -> dict[str, Any]:
    """Return one sample taken `at` so many seconds."""
    return {"time": at, "gpu": gpu, **({"phase": phase} if phase else {}), **more}


def samples_in(path: Path) -> list[dict[str, Any]]:
    """Return the samples of a recording, every line of which has to be whole."""
    return [json.loads(line) for line in path.read_text().splitlines()]
