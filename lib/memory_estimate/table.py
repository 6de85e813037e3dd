"""Write predicted memory as tables: what a model's runs have in common once, then one line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .gpu_packing import CONTEXT_MIB, FRAGMENTATION, MIB, available_mib

if TYPE_CHECKING:
    from .estimator import Prediction


def mib(size: float) -> str:
    """Format bytes as MiB."""
    return f"{size / MIB:,.1f}"


def text(predictions: Sequence[Prediction], gpu_mib: float | None, batches: dict[str, int]) -> str:
    """Return a table for the runs of each model, data set, precision and batch size, and what the figures leave out."""
    by_settings: dict[tuple[object, ...], list[Prediction]] = {}
    for prediction in predictions:
        config = prediction.config
        key = (config.model, config.dataset, config.precision, config.batch_size)
        by_settings.setdefault(key, []).append(prediction)
    lines = [line for runs in by_settings.values() for line in (*heading(runs[0]), *table(runs, gpu_mib, batches), "")]
    lines.append("MiB of tensors, predicted without compilation; context and workspaces of the GPU come on top.")
    if gpu_mib:
        lines.append(
            f"Of {gpu_mib:,.0f} MiB, {CONTEXT_MIB:,.0f} are kept for those and {100 * FRAGMENTATION:.0f} % for "
            f"fragmentation: {available_mib(gpu_mib):,.0f} are left for tensors."
        )
    return "\n".join(lines)


def heading(prediction: Prediction) -> Iterator[str]:
    """Yield lines that say what the runs of a table have in common."""
    config, held = prediction.config, prediction.stages["start"]
    training, evaluation = held["pass"], held["evaluation"]
    yield f"{config.model}, {config.dataset}, {config.precision}, batch {config.batch_size}"
    parts = {name: evaluation[name] for name in ("weights", "gradients", "buffers", "data")}
    yield "  every run: " + ", ".join(f"{name} {mib(size)}" for name, size in parts.items())
    yield (
        f"  peak of a training pass: activations {mib(training['activations'])}, gradients by then "
        f"{mib(training['gradients'])}, temporary {mib(training['temporary'])}"
    )
    yield f"  peak of an evaluation, batch {config.eval_batch_size}: activations {mib(evaluation['activations'])}"
    yield ""


def table(runs: Sequence[Prediction], gpu_mib: float | None, batches: dict[str, int]) -> Iterator[str]:
    """Yield one line for each run: states and training peak at their highest and after pruning, and the run's peak."""
    names = [run.config.run_id.removeprefix(f"{run.config.model}_") for run in runs]
    cells = [[mib(size) for size in (*figures(run), run.peak)] for run in runs]
    left = 2 + max(len(name) for name in (*names, "run"))
    width = max(9, 2 + max(len(cell) for row in cells for cell in row))
    pairs = ("optimizer state", "pruning state", "training peak")
    yield " " * left + "".join(f"{pair:>{2 * width}}" for pair in pairs) + f"{'peak of':>{width}}"
    columns = ("most", "after") * 3 + ("the run",)
    fitting = f"{'fits':>6}{'largest batch':>15}" if gpu_mib else ""
    yield f"{'  run':<{left}}" + "".join(f"{column:>{width}}" for column in columns) + fitting
    for name, run, row in zip(names, runs, cells, strict=True):
        line = f"{'  ' + name:<{left}}" + "".join(f"{cell:>{width}}" for cell in row)
        if gpu_mib:
            fits = "yes" if run.peak <= available_mib(gpu_mib) * MIB else "no"
            largest = batches[run.config.run_id]
            line += f"{fits:>6}{f'{largest:,}' if largest else 'none':>15}"
        yield line


def figures(run: Prediction) -> Iterator[int]:
    """Yield maximum and last value over the stages of optimizer state, pruning state and training peak, bytes."""
    for state in ("optimizer_state", "pruning_state"):
        sizes = [moments["pass"][state] for moments in run.stages.values()]
        yield from (max(sizes), sizes[-1])
    peaks = [run.training_peak(stage) for stage in run.stages]
    yield from (max(peaks), peaks[-1])
