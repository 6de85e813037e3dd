"""The loop trains, reports what is true, and goes on after any interruption as if there had been none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lenet5.model import LeNet5
from lib.config.errors import ConfigError
from lib.config.run_config import RunConfig
from lib.data.dataset import Data
from lib.storage.run_dir import RunDir
from lib.training import checkpoint, device, lr_schedules
from lib.training.trainer import Diverged, Interrupted, Training, train
from tests.helpers.tiny_runs import StopAfter, assert_same_outcome, folder, lenet5, metrics, run, tiny, weights

# Learning rates, by hand


def test_warm_up_rises_linearly_and_the_cosine_falls_to_zero_one_step_after_the_last() -> None:
    found = [lr_schedules.factor("cosine", step, 8, 0.5) for step in range(8)]
    falling = [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, *falling])
    assert falling[2] == pytest.approx(0.5)


def test_one_cycle_is_a_triangle_and_constant_is_constant() -> None:
    assert [lr_schedules.factor("onecycle", s, 6, 1 / 3) for s in range(6)] == pytest.approx(
        [0.5, 1, 1, 0.75, 0.5, 0.25]
    )
    assert [lr_schedules.factor("constant", s, 4, 0.5) for s in range(4)] == pytest.approx([0.5, 1, 1, 1])


def test_no_warm_up_starts_at_the_full_rate_and_a_whole_run_of_it_ends_there() -> None:
    assert lr_schedules.factor("cosine", 0, 4, 0.0) == 1.0
    assert [lr_schedules.factor("cosine", s, 4, 1.0) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]


# Training


def test_lenet5_learns_the_drawn_images(tmp_path: Path) -> None:
    summary = run(tiny(dataset="synthetic", train_images=1500, epochs=3), tmp_path)
    assert summary["final_accuracy"] > 40.0
    assert summary["synthetic"] is True


def test_results_tell_what_the_run_did(tmp_path: Path) -> None:
    config = tiny("adamwprune", "state", validation_images=100)
    summary = run(config, tmp_path)
    records = metrics(tmp_path)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    final = weights(tmp_path)
    zeros = sum(int((w == 0).sum()) for name, w in final.items() if name.endswith("weight") and w.dim() > 1)
    assert zeros == round(0.7 * 61_470)
    assert records[-1]["sparsity"] == summary["final_sparsity"] == zeros / 61_470
    assert summary["final_sparsity_total"] == zeros / 61_750
    assert summary["final_accuracy"] == records[-1]["test_accuracy"]
    assert summary["best_accuracy"] == max(record["test_accuracy"] for record in records)
    assert summary["final_validation_accuracy"] == records[-1]["validation_accuracy"]
    assert (summary["parameters"], summary["prunable"]) == (61_750, 61_470)
    assert summary["memory"]["weights"] == 4 * 61_750 and summary["memory"]["activations"] > 0
    assert summary["memory_peak"]["optimizer_state"] >= summary["memory"]["optimizer_state"]
    assert json.loads(RunDir(tmp_path).summary.read_text()) == summary
    assert RunDir(tmp_path).phase.read_text() == "done\n"


def test_the_allocators_peaks_are_those_of_training_after_its_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, with an allocator that stands in for a GPU's: its peaks are 9 until they are reset after three steps.

    What is reserved starts at 99, which stays until the cache is emptied.
    """
    training = Training(tiny(), folder(tmp_path), lenet5, None, lambda line: None)
    training.measure_activations_and_compile()
    training.peaks.device = torch.device("cuda")
    peaks = iter([9, 5])
    now = {"allocated": 0, "cached": 99}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: now.update(cached=0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: now.update(allocated=next(peaks)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: now["allocated"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: now["allocated"] + now["cached"])
    training.train_epoch()
    for record in (training.record["memory"], training.record["memory_peak"]):
        assert (record["allocator_peak"], record["reserved_peak"]) == (5, 5)


def test_the_test_accuracy_is_that_of_the_saved_weights(tmp_path: Path) -> None:
    from lib.data import dataset, transforms

    config = tiny()
    summary = run(config, tmp_path)
    source = dataset.load(config, torch.device("cpu"))
    model = lenet5(config, source)
    model.load_state_dict(weights(tmp_path))
    with torch.no_grad():
        answers = model.eval()(transforms.normalise(source.test_images, source)).argmax(1)
    assert 100 * (answers == source.test_labels).double().mean().item() == pytest.approx(summary["final_accuracy"])


def test_the_same_configuration_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tiny(seed=seed, epochs=1), tmp_path / name)
    assert_same_outcome(tmp_path / "a", tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def test_phases_follow_the_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(RunDir, "set_phase", lambda self, name: seen.append(name))
    run(tiny("adamw", "magnitude"), tmp_path)
    assert [name for name in seen if name != "evaluate"] == ["train", "ramp", "ramp", "ramp", "finetune", "done"]
    assert seen.count("evaluate") == 3


def test_gradients_are_clipped_before_the_optimizer_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = torch.optim.SGD.step

    def step(self: Any, *args: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(nn.utils.get_total_norm(gradients)))
        return original(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    run(tiny("sgd", epochs=1, gradient_clip=0.01), tmp_path)
    assert len(norms) == 4 and max(norms) <= 0.01 * (1 + 1e-4)


def test_nothing_waits_for_the_device_between_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a number from a tensor does; how often must not depend on the number of steps."""
    reads: list[int] = []
    original = torch.Tensor.item
    for name in ("item", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: reads.append(1) or original(self))
    counts = []
    for images in (128, 512):
        reads.clear()
        run(tiny(epochs=1, train_images=images), tmp_path / str(images))
        counts.append(len(reads))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_with_full_precision_weights(precision: str, tmp_path: Path) -> None:
    summary = run(tiny(precision=precision, train_images=512, channels_last=True), tmp_path)
    assert summary["precision"] == precision
    assert summary["final_accuracy"] > 50.0
    assert all(w.dtype == torch.float32 for name, w in weights(tmp_path).items() if name.endswith("weight"))


def test_an_infinite_loss_ends_the_run_and_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"loss became (nan|inf) in epoch 1"):
        run(tiny("sgd", learning_rate=1e9), tmp_path)
    assert metrics(tmp_path) == []
    assert not RunDir(tmp_path).summary.exists()


def test_an_infinite_loss_of_the_test_set_is_named_as_such(tmp_path: Path) -> None:
    class Broken(LeNet5):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * (1.0 if self.training else float("inf"))

    with pytest.raises(Diverged, match=r"the test loss became (nan|inf) in epoch 1"):
        train(tiny(), folder(tmp_path), lambda config, data: Broken(data.channels, data.classes))
    assert metrics(tmp_path) == []


def test_a_gradient_that_is_no_number_ends_a_pruned_run_with_the_layer_named(tmp_path: Path) -> None:
    def build(config: RunConfig, data: Data) -> nn.Module:
        model = LeNet5(data.channels, data.classes)
        model.classifier[2].weight.register_hook(lambda gradient: gradient * float("nan"))
        return model

    with pytest.raises(Diverged, match=r"in epoch 1: layer classifier.2.weight: a score is NaN"):
        train(tiny("adamwprune", "state", pruning_start=0.0, pruning_interval=1), folder(tmp_path), build)


@pytest.mark.parametrize(
    ("optimizer", "method"), [("adamw", "magnitude"), ("adamw", "movement"), ("adamwprune", "state")]
)
def test_steps_that_overflow_in_fp16_are_skipped_and_do_not_reach_the_scores(
    optimizer: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.amp.GradScaler
    scalers: list[torch.amp.GradScaler] = []

    def scaler(*arguments: Any, **settings: Any) -> torch.amp.GradScaler:
        scalers.append(original(*arguments, init_scale=2.0**26, **settings))
        return scalers[-1]

    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    changes = {"precision": "fp16", "epochs": 6, "pruning_interval": 1, "pruning_end": 0.4, "gradient_clip": 1.0}
    summary = run(tiny(optimizer, method, **changes), tmp_path)
    assert scalers[0].get_scale() < 2.0**26  # it did overflow
    assert summary["final_sparsity"] == pytest.approx(0.7, abs=1e-4)


def test_cuda_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match=r"no GPU here \(CUDA_VISIBLE_DEVICES=''\); choose DEVICE=auto"):
        run(tiny(device="cuda"), tmp_path)


@pytest.mark.parametrize(
    ("compiler", "triton", "compiled"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_compilation_is_automatic_only_where_a_gpu_has_what_it_takes(
    compiler: bool, triton: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in {"is_available": True, "is_bf16_supported": True, "get_device_name": "a GPU"}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: triton)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if compiler else None)
    monkeypatch.delenv("CC", raising=False)
    assert device.resolve_device(tiny(compile="auto")).compiled is compiled
    assert device.resolve_device(tiny(compile="on")).compiled


# Going on

PAIRS = [
    ("sgd", "movement", {}),
    ("adam", "magnitude", {}),
    ("adamw", "none", {"gradient_clip": 0.5, "crop_padding": 2, "flip": True}),
    ("adamw", "movement", {}),
    ("adamwadv", "magnitude", {}),
    ("adamwspam", "none", {"reset_interval": 3, "reset_warmup": 2}),
    ("adamwprune", "none", {}),
    ("adamwprune", "state", {}),
    ("adamwprune", "state", {"regrowth": 0.3}),
    ("adamwprune", "state", {"mode": "dynamic", "regrowth": 0.3}),
    ("adamwprune", "state", {"mode": "lean"}),
    ("adamw", "none", {"precision": "fp16"}),
]


@pytest.mark.parametrize(("optimizer", "method", "changes"), PAIRS)
def test_stopped_in_mid_epoch_and_resumed_equals_undisturbed(
    optimizer: str, method: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    config = tiny(optimizer, method, **changes)
    run(config, tmp_path / "calm")
    for steps in (5, 2):  # in the second epoch, in the middle of the ramp; then again, two steps later
        with pytest.raises(Interrupted):
            run(config, tmp_path / "stopped", StopAfter(steps))
    run(config, tmp_path / "stopped")
    assert_same_outcome(tmp_path / "calm", tmp_path / "stopped")


def test_stopped_before_the_first_step_and_after_the_last_of_an_epoch_too(tmp_path: Path) -> None:
    run(tiny(), tmp_path / "calm")
    for steps in (0, 4):
        with pytest.raises(Interrupted):
            run(tiny(), tmp_path / "stopped", StopAfter(steps))
    run(tiny(), tmp_path / "stopped")
    assert_same_outcome(tmp_path / "calm", tmp_path / "stopped")


def test_lines_after_the_checkpoint_are_dropped_so_that_no_epoch_is_there_twice(tmp_path: Path) -> None:
    config = tiny(checkpoint_every=2)
    run(config, tmp_path / "calm")
    with pytest.raises(Interrupted):
        run(config, tmp_path / "killed", StopAfter(8))
    # a kill in the third epoch leaves the checkpoint of the second and perhaps more lines, the last one torn
    with RunDir(tmp_path / "killed").metrics.open("a") as file:
        file.write('{"epoch": 3, "test_accuracy": 12.0}\n{"epoch": 4, "tes')
    run(config, tmp_path / "killed")
    assert_same_outcome(tmp_path / "calm", tmp_path / "killed")


@pytest.mark.parametrize("both", [False, True])
def test_damaged_checkpoints_cost_time_but_change_nothing(both: bool, tmp_path: Path) -> None:
    run(tiny(), tmp_path / "calm")
    with pytest.raises(Interrupted):
        run(tiny(), tmp_path / "hurt", StopAfter(9))
    hurt, said = RunDir(tmp_path / "hurt"), []
    hurt.checkpoint.write_bytes(b"\0" * 1000)
    if both:
        hurt.previous_checkpoint.write_bytes(b"?")
    run(tiny(), tmp_path / "hurt", log=said.append)
    assert any("checkpoint.pt is damaged" in line for line in said)
    assert any("starts again" in line for line in said) == both
    assert_same_outcome(tmp_path / "calm", tmp_path / "hurt")


def test_only_epochs_may_change_and_only_grow(tmp_path: Path) -> None:
    run(tiny(epochs=2), tmp_path)
    with pytest.raises(ConfigError) as error:
        run(tiny(epochs=1, batch_size=32, seed=5), tmp_path)
    assert {problem.split("=")[0] for problem in error.value.problems} == {"seed", "batch_size", "epochs"}
    before = metrics(tmp_path)
    summary = run(tiny(epochs=4), tmp_path)
    assert summary["epochs"] == 4 and summary["extended_from_epochs"] == 2
    assert metrics(tmp_path)[:2] == before and len(metrics(tmp_path)) == 4


def test_resuming_a_finished_run_only_writes_its_results_again(tmp_path: Path) -> None:
    first = run(tiny(), tmp_path)
    assert "extended_from_epochs" not in first
    RunDir(tmp_path).summary.unlink()
    assert run(tiny(), tmp_path) == first


def test_one_checkpoint_is_left_when_all_is_done(tmp_path: Path) -> None:
    run(tiny(checkpoint_every=2), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint.pt", "metrics.jsonl", "model.safetensors", "summary.json"} <= left
    assert "checkpoint.previous.pt" not in left
    assert checkpoint.read(RunDir(tmp_path).checkpoint)["epoch"] == 3
