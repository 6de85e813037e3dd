"""Write checkpoints atomically, keep the previous one, and read them without executing what they hold."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..storage.files import remove_leftovers, replacing
from ..storage.run_dir import RunDir

FORMAT = 1  # counts up when what a checkpoint holds changes

#: Keys of a checkpoint: `history` holds the records of finished epochs, `running` the sums of the unfinished one.
PARTS = (
    "format", "config", "epoch", "step", "history", "running", "model", "optimizer", "pruner", "scaler", "random",
)  # fmt: skip


class Damaged(Exception):
    """A checkpoint that cannot be used; the message says why."""


def save(run: RunDir, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, texts, lists, dicts; see PARTS) and keep the checkpoint before it.

    At every moment one of the two files is a whole checkpoint. If the disk refuses, OSError is raised and the files
    stay as they were.
    """
    buffer = io.BytesIO()  # torch.save straight into a file hides the reason when the disk is full
    torch.save(state | {"format": FORMAT}, buffer)
    with replacing(run.checkpoint) as file:
        file.write(buffer.getbuffer())
        file.flush()
        if run.checkpoint.exists():
            run.checkpoint.replace(run.previous_checkpoint)


def load(run: RunDir, log: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint, on the CPU, or None; damaged ones are reported to `log`."""
    for name in remove_leftovers(run.path):
        log(f"removed {name}, left by a process that was killed")
    damaged = False
    for path in (run.checkpoint, run.previous_checkpoint):
        if path.exists():
            try:
                state = read(path)
            except Damaged as error:
                damaged = True
                log(f"{path.name} is damaged and not used: {error}")
                continue
            if damaged:
                log(f"resuming from {path.name}")
            return state
    if damaged:
        log("no whole checkpoint is left: the run starts again")
    return None


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint file, on the CPU. Raises Damaged; never executes code in the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch does not compare the sums of what it reads
        if broken is not None:
            raise Damaged(f"the sum of {broken} does not match")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise Damaged(_first_line(error)) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise Damaged(f"not a whole file ({_first_line(error)})") from error
    except pickle.UnpicklingError as error:
        raise Damaged(f"it holds more than tensors and plain values ({_first_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Damaged("not a checkpoint of this version")
    if lacking := [part for part in PARTS if part not in state]:
        raise Damaged(f"it lacks {', '.join(lacking)}")
    return state


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
