"""Tables of predicted memory as text: what is common to a model's runs once, then one line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .gpu_packing import CONTEXT_MIB, FRAGMENTATION, MIB, available_mib

if TYPE_CHECKING:
    from .estimator import Prediction


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / MIB:,.1f}"


def text(found: Sequence[Prediction], gpu_mib: float | None, batches: dict[str, int]) -> str:
    """A table for the runs of each model, dataset, precision and batch size; then what is not in the figures."""
    alike: dict[tuple[object, ...], list[Prediction]] = {}
    for one in found:
        config = one.config
        alike.setdefault((config.model, config.dataset, config.precision, config.batch_size), []).append(one)
    lines = [line for runs in alike.values() for line in (*heading(runs[0]), *table(runs, gpu_mib, batches), "")]
    lines.append("MiB of tensors, predicted without compilation; context and workspaces of the GPU come on top.")
    if gpu_mib:
        lines.append(
            f"Of {gpu_mib:,.0f} MiB, {CONTEXT_MIB:,.0f} are kept for those and {100 * FRAGMENTATION:.0f} % for "
            f"fragmentation: {available_mib(gpu_mib):,.0f} are left for tensors."
        )
    return "\n".join(lines)


def heading(one: Prediction) -> Iterator[str]:
    """What the runs of a table have in common."""
    config, held = one.config, one.stages["start"]
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
    """One line for each run: states and training peak at their highest and after pruning; the run's peak."""
    names = [one.config.run_id.removeprefix(f"{one.config.model}_") for one in runs]
    cells = [[mib(size) for size in (*figures(one), one.peak)] for one in runs]
    left = 2 + max(len(name) for name in (*names, "run"))
    width = max(9, 2 + max(len(cell) for row in cells for cell in row))
    pairs = ("optimizer state", "pruning state", "training peak")
    yield " " * left + "".join(f"{pair:>{2 * width}}" for pair in pairs) + f"{'peak of':>{width}}"
    columns = ("most", "after") * 3 + ("the run",)
    more = f"{'fits':>6}{'largest batch':>15}" if gpu_mib else ""
    yield f"{'  run':<{left}}" + "".join(f"{column:>{width}}" for column in columns) + more
    for name, one, row in zip(names, runs, cells, strict=True):
        line = f"{'  ' + name:<{left}}" + "".join(f"{cell:>{width}}" for cell in row)
        if gpu_mib:
            fits = "yes" if one.peak <= available_mib(gpu_mib) * MIB else "no"
            largest = batches[one.config.run_id]
            line += f"{fits:>6}{f'{largest:,}' if largest else 'none':>15}"
        yield line


def figures(one: Prediction) -> Iterator[int]:
    """Most over all stages and last, of optimizer state, pruning state and the peak of a training step; bytes."""
    for state in ("optimizer_state", "pruning_state"):
        sizes = [moments["pass"][state] for moments in one.stages.values()]
        yield from (max(sizes), sizes[-1])
    peaks = [one.training_peak(stage) for stage in one.stages]
    yield from (max(peaks), peaks[-1])
