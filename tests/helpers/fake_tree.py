"""A copy of the tree whose lenet5/train.py trains nothing, but ends as the test wishes: starting takes no seconds.

What a run does stands in the file `behaviour.json` in the root of the copy: run id -> list of words. A run that is
"held" goes on once `release` was called.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from lib.storage.project import ROOT

TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))
from lib.config.run_config import RunConfig
from lib.storage.files import append_json, read_json_lines, write_json
from lib.storage.run_dir import RunDir

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run = RunDir(arguments["--output"])
config = RunConfig.from_yaml(Path(arguments["--config"]).read_text())
words = json.loads((root / "behaviour.json").read_text()).get(config.run_id, [])
with (root / "started.txt").open("a") as file:
    file.write(f"{config.run_id} {os.getpid()}\\n")
if "import-error" in words:
    import no_such_module
stopped = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda n, _: stopped.append(n))
if "mute" in words:
    time.sleep(60)
with run.lock(wait=10):
    run.write_status("running", epoch=0, epochs=config.epochs)
    records, _ = read_json_lines(run.metrics)
    for epoch in range(len(records) + 1, config.epochs + 1):
        if "once-killed" in words and epoch == 2 and not (run.path / "killed").exists():
            (run.path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "segv" in words:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "fail" in words:
            print("Traceback (most recent call last):\\nRuntimeError: the sky fell", flush=True)
            sys.exit(1)
        if "diverge" in words:
            run.write_status("diverged", "loss is not finite in epoch 1", exit_code=1)
            sys.exit(1)
        deadline = time.monotonic() + (30.0 if "slow" in words or "held" in words else 0.0)
        while time.monotonic() < deadline and not ("watch" in words and os.getppid() == 1):
            if "held" in words and (root / "released").exists():
                break
            time.sleep(0.02)
            if stopped and "deaf" not in words:
                run.write_status("interrupted", "stopped")
                sys.exit(128 + stopped[0])
        if "watch" in words and os.getppid() != int(os.environ["ADAMWPRUNE_PARENT"]):
            time.sleep(1.0)  # still saving
            (run.path / "orphan-ended").write_text(str(time.time()))
            sys.exit(143)
        append_json(run.metrics, {"epoch": epoch, "test_accuracy": 50.0, "sparsity": 0.0, "pid": os.getpid()})
        run.write_status("running", epoch=epoch, epochs=config.epochs)
    write_json(run.summary, {"epochs": config.epochs, "final_accuracy": 50.0, "seconds": 1.0})
    run.write_status("done")
"""


def make_tree(root: Path) -> Path:
    """Copy the harness to `root`, with the stand-in for the training."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("lib", "scripts", "lenet5", "resnet18", "defconfigs"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    shutil.copy(ROOT / "Kconfig", root)
    (root / "lenet5/train.py").write_text(TRAIN)
    behave(root, {})
    return root


def behave(root: Path, words: dict[str, list[str]]) -> None:
    (root / "behaviour.json").write_text(json.dumps(words))


def release(root: Path) -> None:
    """Let runs that are held go on."""
    (root / "released").touch()


RUNS = ("lenet5_sgd_none", "lenet5_adam_none", "lenet5_adamw_none")
THREE_RUNS = ["OPTIMIZER=sgd,adam,adamw", "PRUNING_METHOD=none", "MODEL=lenet5", "DATASET=synthetic", "EPOCHS=2"]


def start(root: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """The runner as a process of its own group, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, str(root / "scripts/run_matrix.py"), "JOBS=1", *arguments],
        cwd=root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(root: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a runner that ends by itself."""
    process = start(root, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def started(root: Path) -> list[str]:
    """Ids of the runs whose training was started, in order, as often as it was."""
    path = root / "started.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def folders(root: Path) -> list[Path]:
    return sorted(path for path in (root / "results").glob("*-*-*") if path.is_dir())


def state(folder: Path, run_id: str) -> dict:
    return json.loads((folder / run_id / "status.json").read_text())


def wait_for(condition, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def running(root: Path, run_id: str) -> dict | None:
    """The status of the run in the newest folder, once its training has begun and tells its process number."""
    for folder in reversed(folders(root)):
        path = folder / run_id / "status.json"
        if path.exists() and (status := json.loads(path.read_text()))["state"] == "running" and status["pid"]:
            return status
    return None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def matrix_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "matrix.yaml").read_text())


def end(process: subprocess.Popen) -> None:
    """Leave nothing behind, whatever the test found."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
