"""What `make memory` prints."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.config import kconfig
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.memory_estimate import gpu_packing
from lib.memory_estimate.estimator import MemoryEstimator
from scripts import memory
from tests.helpers.run_train_py import wait_for

ROOT = Path(memory.__file__).resolve().parents[1]
MIB = 2**20


def config(optimizer: str = "adamw", method: str = "none") -> RunConfig:
    return run_config(kconfig.defaults(ROOT), "lenet5", optimizer, method, 0.7, seed=0)


def test_every_run_of_the_matrix_has_a_line_and_the_presets_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["--config", str(ROOT / "defconfigs/quickstart"), "BATCH_SIZE=64"]) == 0
    table = capsys.readouterr().out
    assert "lenet5, mnist5k, fp32, batch 64" in table
    lines = [line.split() for line in table.splitlines()]
    runs = [words for words in lines if words and words[0] in ("adamw_none", "adamwprune_state_70")]
    assert len(runs) == 2
    assert all(len(words) == 8 for words in runs)
    assert all(float(word) >= 0 for words in runs for word in words[1:])


def test_json_says_in_bytes_what_fits_and_the_largest_batch(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(ROOT / "defconfigs/lenet5-adamwprune"), "--json", "--gpu-mib", "850"]
    assert memory.main([*arguments, "LENET5_DATASET=mnist5k", "EVAL_BATCH_SIZE=100"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["run"] == "lenet5_adamwprune_state_70"
    assert run["fits"] is True
    assert run["predicted_peak"] <= gpu_packing.available_mib(850) * MIB
    assert 256 < run["largest_batch"] < 4000
    after, start = (run["stages"][stage]["pass"]["optimizer_state"] for stage in ("after", "start"))
    assert after < 0.35 * start


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["EPOCH=3"], "EPOCHS"),
        (["--config", "defconfigs/nope"], "nope"),
        (["LENET5_BATCH_SIZE=0"], "LENET5_BATCH_SIZE"),
        (["MIN_DENSITY=0.9", "TARGET_SPARSITY=0.9"], "min_density"),
    ],
)
def test_wrong_configuration_is_one_sentence_and_code_2(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = wrong if "--config" in wrong else ["--config", str(ROOT / "defconfigs/lenet5-adamwprune"), *wrong]
    assert memory.main(given) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""


@pytest.mark.parametrize("size", ["x", "0", "-5", "nan", "1e12"])
def test_gpu_mib_that_is_no_size_ends_with_code_2(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        memory.main([f"--gpu-mib={size}"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"GPU_MIB={size}: a number of MiB above 0 is expected\n"


def test_usage_is_answered_without_torch() -> None:
    code = "import sys; sys.argv[1:] = ['--help']; import runpy; runpy.run_path('scripts/memory.py', run_name='x')"
    check = f"{code}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_a_run_that_cannot_be_predicted_takes_no_other_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(ROOT / "defconfigs/quickstart"), "BATCH_SIZE=64", "TARGET_SPARSITY=0.99"]
    assert memory.main(arguments) == 1
    captured = capsys.readouterr()
    assert "adamw_none" in captured.out and "state_99" not in captured.out
    (said,) = captured.err.splitlines()
    assert said.startswith("no prediction for lenet5_adamwprune_state_99: sparsity 0.99 cannot be reached: min_density")
    assert memory.main([*arguments, "--json", "--gpu-mib", "2000"]) == 1
    assert "lenet5_adamw_none" in [run["run"] for run in json.loads(capsys.readouterr().out)]


def test_whatever_goes_wrong_is_told_in_one_line_with_all_runs_that_it_befell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(estimator: object, run: RunConfig) -> None:
        raise RuntimeError("no such kernel\nin a long story")

    monkeypatch.setattr(MemoryEstimator, "predict", fail)
    runs = [config(), config("sgd")]
    monkeypatch.setattr(memory.sys, "stdin", io.StringIO("---\n".join(run.to_yaml() for run in runs)))
    assert memory.main(["--runs"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "no prediction for lenet5_adamw_none, lenet5_sgd_none: RuntimeError: no such kernel\n"


def test_a_document_that_is_no_run_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [config().to_yaml(), "a: [", "model: nothing we know\n", config("sgd").to_yaml()]
    monkeypatch.setattr(memory.sys, "stdin", io.StringIO("".join(f"---\n{document}\n" for document in documents)))
    assert memory.main(["--runs", "--json"]) == 1
    captured = capsys.readouterr()
    assert [run["run"] for run in json.loads(captured.out)] == ["lenet5_adamw_none", "lenet5_sgd_none"]
    assert ["run 2 of those given" in captured.err, "run 3 of those given" in captured.err] == [True, True]


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    preset = str(ROOT / "defconfigs" / "resnet18-comprehensive-pruning-compare")  # far more than a second's work
    command = [sys.executable, "scripts/memory.py", "--config", preset]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(lambda: "libtorch" in maps.read_text())  # the configuration is read, and the runs are being predicted
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")
