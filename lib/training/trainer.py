"""Train a run: the one training loop of all models, optimizers and pruning methods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import dataset as datasets
from ..data import loader
from ..memory import accounting
from ..memory.allocator import AllocatorPeaks
from ..pruning.score_histogram import NotFinite
from ..storage.files import append_json, read_json_lines, write_atomic, write_json, write_json_lines
from ..storage.run_dir import RunDir
from . import checkpoint, device, inference, lr_schedules, run_state, seeding
from .build import build_optimizer, build_pruner
from .memory_layout import crashes_in_channels_last
from .progress import Diverged, Interrupted, Progress, Stop
from .progress_report import ProgressReport
from .summary import summarise

if TYPE_CHECKING:
    from ..config.run_config import RunConfig
    from .models import BuildModel
    from .tensorboard import Events

Log = Callable[[str], None]


def train(
    config: RunConfig, run: RunDir, build_model: BuildModel, stop: Stop | None = None, log: Log = print
) -> dict[str, Any]:
    """Train one run from where it is to its last epoch, write its results, and return its summary.

    Raises Interrupted (state saved), Diverged, ConfigError (a setting that cannot be used here, or is not the one the
    run was started with), DataError, OSError (disk), torch.OutOfMemoryError.
    """
    training = Training(config, run, build_model, stop, log)
    training.resume()
    training.measure_activations_and_compile()
    while training.progress.epoch < config.epochs:
        training.train_epoch()
        training.evaluate()
        training.report()
        training.save_if_due()
    return training.finish()


class Training:
    """Hold one run in memory: model, optimizer, pruner, data and progress."""

    def __init__(self, config: RunConfig, run: RunDir, build_model: BuildModel, stop: Stop | None, log: Log) -> None:
        self.config, self.run, self.stop, self.log = config, run, stop, log
        self.setup = device.resolve_device(config)
        self.setup.apply()
        seeding.seed_everything(config.seed, config.deterministic)
        self.device = self.setup.device
        self.data = datasets.load(config, self.device)
        self.steps = loader.steps_per_epoch(self.data, config)
        total_steps = config.epochs * self.steps
        model = build_model(config, self.data)
        self.avoids_channels_last = crashes_in_channels_last(model, self.device)
        channels_last = config.channels_last and not self.avoids_channels_last
        layout = torch.channels_last if channels_last else torch.preserve_format
        self.model = model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(config, self.model, total_steps)
        self.pruner = build_pruner(config, self.model, self.optimizer, total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.setup.precision == "fp16")
        self.progress = Progress()
        self.progress.loss = self.progress.loss.to(self.device)
        self.progress.correct = self.progress.correct.to(self.device)
        self.record: dict[str, Any] = {}
        self.events: Events | None = None
        self.phase = ""
        self.peaks = AllocatorPeaks(self.device)
        batch_size = loader.batch_size(self.data, config)
        self.progress_report = ProgressReport(run, config.epochs, self.steps, batch_size)
        avoided = self.avoids_channels_last and (config.channels_last or self.setup.compiled)
        note = "; not in channels_last, which crashes this model on CPUs" if avoided else ""
        log(f"{config.run_id}: {self.data.note}; {self.setup.describe()}{note}")

    def measure_activations_and_compile(self) -> None:
        """Count the bytes of activations, then compile the model in place, which keeps the names in its state."""
        images, labels = next(loader.batches(self.data, self.config, epoch=0))
        self.model.train()
        with self.setup.autocast():
            self.activations = accounting.activation_bytes(self.model, images, labels, self.loss)
        if self.setup.compiled:
            # the compiler would bring convolutions into channels_last by itself
            options = {"layout_optimization": False} if self.avoids_channels_last else None
            self.model.compile(options=options)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the training loss of a batch."""
        return F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)

    def train_epoch(self) -> None:
        """Do the remaining steps of an epoch. Until its sums are read at the end, only mask updates wait for a GPU."""
        progress = self.progress
        self.model.train()
        self.peaks.reset()  # the peak of an evaluation, with batches of another size, does not count
        self.progress_report.start_epoch(progress.step, progress.history)
        start = time.perf_counter()
        for images, labels in loader.batches(self.data, self.config, progress.epoch, progress.step):
            if self.stop is not None and self.stop.requested():
                progress.seconds += time.perf_counter() - start
                self.save()
                raise Interrupted(self.stop.number)
            step = progress.epoch * self.steps + progress.step
            self.set_phase(self.pruner.phase(step + 1))
            try:
                self.train_step(images, labels, step)
            except NotFinite as error:  # found while ranking weights
                raise Diverged(f"in epoch {progress.epoch + 1}: {error}") from None
            progress.step += 1
            if progress.step == 1:
                progress.memory_after_first_step = self.memory_by_category()  # pruning can only reduce it later
            self.peaks.after_step()
            self.progress_report.after_step(progress.epoch, progress.step)
        loss = progress.loss.item() / self.steps
        progress.seconds += time.perf_counter() - start
        if not math.isfinite(loss):
            raise Diverged(f"the training loss became {loss} in epoch {progress.epoch + 1}")
        held, first = self.memory_by_category() | self.peaks.bytes(), progress.memory_after_first_step
        images_seen = self.steps * loader.batch_size(self.data, self.config)
        self.record = {
            "epoch": progress.epoch + 1,
            "planned_epochs": self.config.epochs,
            "train_loss": loss,
            "train_accuracy": 100 * progress.correct.item() / images_seen,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "epoch_seconds": progress.seconds,
            "images_per_second": images_seen / progress.seconds,
            "memory": held,
            "memory_peak": {name: max(size, first.get(name, 0)) for name, size in held.items()},
        }

    def train_step(self, images: Tensor, labels: Tensor, step: int) -> None:
        """Do one optimizer step; `step` counts from the start of the run."""
        config, optimizer, scaler = self.config, self.optimizer, self.scaler
        factor = lr_schedules.factor(config.lr_schedule, step, config.epochs * self.steps, config.warmup_fraction)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        optimizer.zero_grad(set_to_none=True)
        with self.setup.autocast():
            logits = self.model(images)
            loss = self.loss(logits, labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        if scaler.is_enabled():  # it will skip a step that overflowed, but pruners would learn from it
            for weight in self.pruner.weights.values():
                if weight.grad is not None:
                    weight.grad.nan_to_num_(0.0, 0.0, 0.0)
        self.pruner.before_step()
        scaler.step(optimizer)
        scaler.update()
        self.pruner.after_step()
        self.progress.loss += loss.detach()
        self.progress.correct += (logits.detach().argmax(1) == labels).sum()

    def evaluate(self) -> None:
        """Add test (and validation) loss and accuracy to the record of the finished epoch."""
        data = self.data
        self.set_phase("evaluate")
        start = time.perf_counter()
        self.record |= self.evaluate_on("test", data.test_images, data.test_labels)
        if data.validation_images is not None and data.validation_labels is not None:
            self.record |= self.evaluate_on("validation", data.validation_images, data.validation_labels)
        self.record["evaluation_seconds"] = time.perf_counter() - start

    @torch.no_grad()
    def evaluate_on(self, split: str, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return loss and accuracy (percent) on a set of images; `split` names them."""
        self.model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for batch, targets in loader.evaluation_batches(images, labels, self.data, self.config):
            with self.setup.autocast():
                logits = self.model(batch)
                loss += F.cross_entropy(logits, targets, reduction="sum")
            correct += (logits.argmax(1) == targets).sum()
        mean = loss.item() / len(images)
        if not math.isfinite(mean):
            raise Diverged(f"the {split} loss became {mean} in epoch {self.progress.epoch + 1}")
        return {f"{split}_loss": mean, f"{split}_accuracy": 100 * correct.item() / len(images)}

    def memory_by_category(self) -> dict[str, int]:
        """Return the bytes by category at the end of a step, gradients included."""
        return accounting.account(self.model, self.optimizer, self.pruner) | {"activations": self.activations}

    def report(self) -> None:
        """Write the record of the finished epoch to metrics.jsonl, and a line for people."""
        self.record |= {
            "sparsity": self.pruner.sparsity(),
            "sparsity_total": self.pruner.sparsity_total(),
            "layer_sparsity": self.pruner.layer_sparsity(),
            "time": time.time(),
        }
        if (update := self.mask_update()) is not None:
            self.record["importance"] = update
        record = self.record
        append_json(self.run.metrics, record)
        if self.events is not None:
            self.events.add(record)
        self.progress.next_epoch(record)
        self.run.write_status("running", epoch=self.progress.epoch, epochs=self.config.epochs)
        self.log(
            f"epoch {record['epoch']}/{self.config.epochs}: train loss {record['train_loss']:.4f}, "
            f"test accuracy {record['test_accuracy']:.2f} %, sparsity {100 * record['sparsity']:.1f} %, "
            f"{record['epoch_seconds']:.1f} s"
        )

    def mask_update(self) -> dict[str, Any] | None:
        """Return what the latest mask update of the unfinished epoch ranked and pruned, None if there was none."""
        update = self.pruner.last_update
        if update is not None and update.step > self.progress.epoch * self.steps:
            return update.describe()
        return self.progress.mask_update

    def set_phase(self, phase: str) -> None:
        """Tell the monitor what the run is doing."""
        if phase != self.phase:
            self.phase = phase
            self.run.set_phase(phase)

    def save_if_due(self) -> None:
        """Write a checkpoint after every `checkpoint_every` epochs and after the last."""
        epoch = self.progress.epoch
        if epoch % self.config.checkpoint_every == 0 or epoch == self.config.epochs:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        checkpoint.save(self.run, run_state.capture(self))

    def resume(self) -> None:
        """Continue from the last whole checkpoint, if there is one; drop lines of metrics that are newer."""
        state = checkpoint.load(self.run, self.log)
        progress = self.progress
        if state is not None:
            run_state.restore(self, state)
            self.log(
                f"resuming after {progress.epoch} of {self.config.epochs} epochs and {progress.step} of {self.steps} "
                "steps of the next"
            )
        if torn := read_json_lines(self.run.metrics)[1]:
            self.log(f"dropped {torn} torn lines of {self.run.metrics.name}")
        write_json_lines(self.run.metrics, progress.history)
        if self.config.tensorboard:
            from .tensorboard import Events, how_to_look

            self.events = Events(self.run.path / "tensorboard", progress.history, self.log)
            self.log(how_to_look(self.run.path))

    def finish(self) -> dict[str, Any]:
        """Write final weights and summary; return the summary."""
        from safetensors.torch import save

        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        stored = save(weights)
        write_atomic(self.run.weights, stored)
        self.run.previous_checkpoint.unlink(missing_ok=True)
        summary = summarise(self.config, self.setup, self.model, self.progress.history)
        if self.config.inference_test:
            autocast = self.setup.autocast()
            summary["inference"] = inference.inference_test(self.model, self.data, self.config, autocast, stored)
            self.log(inference.table(summary["inference"], self.setup.name))
        write_json(self.run.summary, summary)
        self.set_phase("done")
        return summary
