"""Whatever happens to a checkpoint, the run goes on from a whole one, says which, and runs no code from it."""

from __future__ import annotations

import os
import pickle
import random
import resource
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.storage.run_dir import RunDir
from lib.training import checkpoint
from tests.helpers.tiny_runs import folder


def state(epoch: int) -> dict[str, Any]:
    parts: dict[str, Any] = dict.fromkeys(checkpoint.PARTS, 0)
    return parts | {"epoch": epoch, "model": {"weight": torch.full((1000,), float(epoch))}}


def saved(path: Path, epochs: int = 2) -> RunDir:
    run = folder(path)
    for epoch in range(1, epochs + 1):
        checkpoint.save(run, state(epoch))
    return run


def load(run: RunDir) -> tuple[int | None, str]:
    said: list[str] = []
    found = checkpoint.load(run, said.append)
    return found and found["epoch"], "\n".join(said)


def test_the_newest_is_loaded_and_the_one_before_kept(tmp_path: Path) -> None:
    run = saved(tmp_path, epochs=3)
    assert load(run) == (3, "")
    assert checkpoint.read(run.previous_checkpoint)["epoch"] == 2
    assert torch.equal(checkpoint.read(run.checkpoint)["model"]["weight"], torch.full((1000,), 3.0))


def test_no_checkpoint_is_no_news(tmp_path: Path) -> None:
    assert load(folder(tmp_path)) == (None, "")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_one_bit_of_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 2.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def drop_a_part(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    del found["optimizer"]
    torch.save(found, path)


def other_format(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"format": 0}, path)


@pytest.mark.parametrize("damage", [truncate, zero, empty, flip_one_bit_of_a_weight, drop_a_part, other_format])
def test_a_damaged_one_is_named_and_the_previous_used(damage: Any, tmp_path: Path) -> None:
    run = saved(tmp_path)
    damage(run.checkpoint)
    epoch, said = load(run)
    assert epoch == 1
    assert "checkpoint.pt is damaged and not used: " in said and "resuming from checkpoint.previous.pt" in said


def test_whatever_byte_is_changed_it_is_whole_or_damaged_and_nothing_else(tmp_path: Path) -> None:
    run = saved(tmp_path)
    content = run.checkpoint.read_bytes()
    damaged = 0
    for place in range(0, len(content), 3):
        run.checkpoint.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            checkpoint.read(run.checkpoint)
        except checkpoint.Damaged:
            damaged += 1
    assert damaged > len(content) / 3 / 2


def test_two_damaged_ones_mean_a_new_start_that_is_announced(tmp_path: Path) -> None:
    run = saved(tmp_path)
    zero(run.checkpoint)
    truncate(run.previous_checkpoint)
    epoch, said = load(run)
    assert epoch is None
    assert said.count("is damaged") == 2 and "the run starts again" in said


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    run, mark = saved(tmp_path / "run"), tmp_path / "was-here"
    torch.save(state(9) | {"pruner": Hostile(mark)}, run.checkpoint)
    run.previous_checkpoint.write_bytes(pickle.dumps(Hostile(mark)))
    epoch, said = load(run)
    assert epoch is None and "holds more than tensors" in said
    assert not mark.exists()
    torch.load(run.checkpoint, weights_only=False)  # it would have been
    assert mark.exists()


def test_an_archive_of_something_else_is_damaged(tmp_path: Path) -> None:
    run = saved(tmp_path)
    with zipfile.ZipFile(run.checkpoint, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert load(run)[0] == 1


def test_a_full_disk_leaves_the_old_one_and_no_half_one(tmp_path: Path) -> None:
    run = saved(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(run, state(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(run) == (2, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_kill_during_a_write_always_leaves_a_whole_one(tmp_path: Path) -> None:
    run = saved(tmp_path, epochs=1)
    rng, epoch = random.Random(0), 1
    for _ in range(20):
        writer = os.fork()
        if writer == 0:
            while True:
                epoch += 1
                checkpoint.save(run, state(epoch))
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        left = [path.name for path in tmp_path.glob(".*.tmp")]
        found, said = load(run)
        assert found is not None and found >= epoch
        assert said.splitlines() == [f"removed {name}, left by a process that was killed" for name in left]
        epoch = found
    assert epoch > 1  # it did write
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint.previous.pt", "checkpoint.pt"}


def test_what_a_writer_killed_in_mid_write_left_is_removed_and_told(tmp_path: Path) -> None:
    run = saved(tmp_path, epochs=1)
    writer = os.fork()
    if writer == 0:
        while True:
            checkpoint.save(run, state(2))
    partial = f".checkpoint.pt.{writer}-*.tmp"
    deadline = time.monotonic() + 30
    while True:  # stopped, it cannot finish the write between the look and the kill
        os.kill(writer, signal.SIGSTOP)
        os.waitpid(writer, os.WUNTRACED)
        if any(tmp_path.glob(partial)) or time.monotonic() > deadline:
            break
        os.kill(writer, signal.SIGCONT)
        time.sleep(0.001)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    (left,) = tmp_path.glob(partial)
    epoch, said = load(run)
    assert epoch in (1, 2)
    assert said == f"removed {left.name}, left by a process that was killed"
    assert not left.exists()
