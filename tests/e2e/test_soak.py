"""The long tests (`make soak`): many runs, many kills, the same end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

from tests.helpers.make_runner import (
    BOXES,
    end,
    epochs,
    kill_each,
    matrix,
    only_run,
    processes_with,
    runs,
    same,
    settings,
    start,
    status,
    wait_for,
)

pytestmark = pytest.mark.soak

SEEDS = 40  # times five runs: 200


def settings_of_200(path):
    return settings(
        path,
        ("sgd", "adam", "adamw", "adamwspam", "adamwprune"),
        ("movement", "state"),
        ("resnet18",),
        RESNET18_DATASET_SYNTHETIC="y",
        RESNET18_WIDTH="8",
        RESNET18_BATCH_SIZE="32",
        RESNET18_EPOCHS="3",
        RESNET18_THREADS="1",
        RESNET18_PRECISION_FP32="y",
        TRAIN_IMAGES="128",
        SEEDS=str(SEEDS),
    )


def disturb(process, results, chance: random.Random, seconds: float) -> str:
    """Do one fault, within so many seconds, to a random process of a running matrix. What it was."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(chance.uniform(0.0, seconds))
        return "nothing"
    what = chance.choices(["run killed", "runner killed", "runner stopped", "Ctrl-C"], [70, 15, 10, 5])[0]
    if what == "run killed":
        training = [p for p in processes_with(f"--output {results}") if "train.py" in " ".join(p.cmdline()[:2])]
        if not training:
            return "nothing"
        os.kill(chance.choice(training).pid, signal.SIGKILL)
    else:
        number = {"runner killed": signal.SIGKILL, "runner stopped": signal.SIGTERM, "Ctrl-C": signal.SIGINT}[what]
        process.send_signal(number)
    return what


def test_200_runs_disturbed_at_random_end_like_200_calm_ones(tree, tmp_path, capsys):
    config = settings_of_200(tmp_path / "config")
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    began = time.monotonic()
    code, out, err = matrix(config, calm, "JOBS=2", timeout=7200)
    assert code == 0, out + err
    one_run = 2 * (time.monotonic() - began) / (5 * SEEDS)
    chance = random.Random(7)
    faults: dict[str, int] = {}
    starts, code = 0, None
    while code != 0:
        starts += 1
        assert starts < 500
        process = start(config, stormy, "JOBS=2", *(["--continue"] if starts > 1 else []))
        try:
            while process.poll() is None:
                what = disturb(process, stormy, chance, 3 * one_run)
                faults[what] = faults.get(what, 0) + 1
            out, err = process.communicate()
        finally:
            end(process)
        code = process.returncode
        assert code in (0, 1, 130, 143, -signal.SIGKILL), out + err
        assert "Traceback" not in out + err
    undisturbed, found = runs(calm), runs(stormy)
    assert len(found) == len(undisturbed) == 5 * SEEDS
    for name, folder in found.items():
        assert status(folder)["state"] == "done"
        assert epochs(folder) == [1, 2, 3]
        assert same(folder, undisturbed[name]), name
    assert not processes_with(str(stormy))
    assert faults["run killed"] >= 20
    with capsys.disabled():
        print(f"\n{len(found)} runs, {starts} starts, {faults}: all done and equal to calm ones")


def test_50_kills_during_checkpoint_writes_lose_nothing(tree, tmp_path, capsys):
    config = settings(tmp_path / "config", ("adamwprune",), ("state",), LENET5_EPOCHS="60", TRAIN_IMAGES="128")
    calm, results = tmp_path / "calm", tmp_path / "results"
    assert matrix(config, calm)[0] == 0
    hits = kills = 0
    while kills < 50:
        process = start(config, results)
        try:
            folder = only_run(results)
            begun = wait_for(lambda folder=folder: now if (now := status(folder)).get("pid") else None)
            partial = f".checkpoint.pt.{begun['pid']}-*.tmp"
            first = begun.get("epoch", 0)
            while status(folder).get("epoch", 0) <= first and process.poll() is None:
                pass  # its first epoch since the start is over
            while not any(folder.glob(partial)) and process.poll() is None:
                pass  # no pause: a write takes a millisecond or two
            hits += any(folder.glob(partial))
            os.kill(begun["pid"], signal.SIGKILL)
            kills += 1
            process.communicate(timeout=60)
        finally:
            end(process)
    code, out, err = matrix(config, results)
    assert code == 0, out + err
    folder = only_run(results)
    log = (folder / "log.txt").read_text()
    assert "damaged" not in log and log.count("resuming after") >= kills - 1
    assert not list(folder.glob(".*.tmp"))
    assert same(folder, only_run(calm))
    assert hits >= 25
    with capsys.disabled():
        print(f"\n{kills} kills, {hits} of them with the write seen in progress: no checkpoint lost")


@pytest.mark.parametrize(
    ("optimizers", "methods", "count", "more"),
    [
        (BOXES["OPTIMIZER"], BOXES["PRUNING"], 17, {}),
        (("adamwprune",), ("state",), 1, {"ADAMWPRUNE_REGROWTH": '"0.2"'}),
        (("adamwprune",), ("state",), 1, {"ADAMWPRUNE_MODE_DYNAMIC": "y", "ADAMWPRUNE_REGROWTH": '"0.2"'}),
    ],
    ids=["all", "regrowth", "dynamic"],
)
def test_every_optimizer_with_every_method_ends_alike_after_a_kill(tree, tmp_path, optimizers, methods, count, more):
    config = settings(tmp_path / "config", optimizers, methods, **more)
    calm, results = tmp_path / "calm", tmp_path / "results"
    code, out, err = matrix(config, calm, "JOBS=2")
    assert code == 0, out + err
    process = start(config, results, "JOBS=2")
    try:
        kill_each(process, results, count, epoch=2)
        process.communicate(timeout=120)
    finally:
        end(process)
    code, out, err = matrix(config, results, "JOBS=2", "--continue")
    assert code == 0, out + err
    undisturbed = runs(calm)
    assert len(undisturbed) == count
    for name, folder in runs(results).items():
        assert epochs(folder) == [1, 2, 3, 4, 5, 6]
        assert same(folder, undisturbed[name]), name
