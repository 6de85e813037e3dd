"""What `make memory` prints, and how many runs share a GPU."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.config import kconfig
from lib.config.resolve import run_config
from lib.config.run_config import RunConfig
from lib.memory_estimate import gpu_packing
from lib.memory_estimate.estimator import MOMENTS, Prediction, Predictor
from lib.memory_estimate.table import text
from lib.monitor import discovery, nvidia
from scripts import memory
from tests.helpers.fake_nvml import FakeNvml, device

ROOT = Path(memory.__file__).resolve().parents[1]
MIB = 2**20


def config(optimizer: str = "adamw", method: str = "none") -> RunConfig:
    return run_config(kconfig.defaults(ROOT), "lenet5", optimizer, method, 0.7, seed=0)


def prediction(run: RunConfig, *, peak: int, states: int, stages: tuple[str, ...]) -> Prediction:
    held = dict.fromkeys(("weights", "gradients", "buffers", "pruning_state", "data", "temporary"), 0)
    whole = held | {"optimizer_state": states * MIB, "activations": (peak - states) * MIB}
    return Prediction(run, {stage: dict.fromkeys(MOMENTS, whole) for stage in stages})


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
    assert "GPU_MIB" in capsys.readouterr().err


def test_table_shows_the_most_and_the_last_and_never_cuts_a_figure() -> None:
    run = config("adamwprune", "state")
    one = prediction(run, peak=123_456, states=100, stages=("start", "ramp", "after"))
    one.stages["after"]["pass"] = one.stages["after"]["pass"] | {"optimizer_state": 30 * MIB}
    shown = text([one], 200_000.0, {run.run_id: 4096})
    line = next(line for line in shown.splitlines() if "state_70" in line).split()
    assert line[1:3] == ["100.0", "30.0"]
    assert line[-3:] == ["123,456.0", "yes", "4,096"]
    assert text([one], 1000.0, {run.run_id: 0}).splitlines()[-4].split()[-2:] == ["no", "none"]


def test_runs_share_a_gpu_only_as_far_as_the_largest_of_them_fit_together() -> None:
    context = gpu_packing.CONTEXT_MIB
    need = context + 950 / (1 - gpu_packing.FRAGMENTATION)  # 1000 MiB with fragmentation
    assert need == context + 1000
    assert gpu_packing.that_fit([950] * 8, 2 * need) == 2
    assert gpu_packing.that_fit([950] * 8, 2 * need - 1) == 1
    assert gpu_packing.that_fit([950, 10, 10], 3400) == 2  # the largest, and one small one
    assert gpu_packing.that_fit([950] * 8, 10) == 1  # one is tried all the same
    assert gpu_packing.that_fit([1] * 100, 1e6) == gpu_packing.MOST


def test_matrix_runner_learns_it_from_a_process_of_its_own() -> None:
    runs = [config(), config("adamwprune", "state")]
    assert gpu_packing.runs_that_share(runs, 16_000) == 2
    assert gpu_packing.runs_that_share(runs, 700) == 1
    assert gpu_packing.runs_that_share(runs[:1], 16_000) == 1


def test_sharing_falls_back_to_one_run_where_nothing_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_packing.sys, "executable", "/bin/false")
    assert gpu_packing.runs_that_share([config(), config("sgd")], 16_000) == 1


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
    def fail(predictor: object, run: RunConfig) -> None:
        raise RuntimeError("no such kernel\nin a long story")

    monkeypatch.setattr(Predictor, "predict", fail)
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
