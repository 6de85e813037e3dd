"""What the report says about one run, folded up."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ..results.display_names import MIB
from ..results.records import RunRecord, number
from ..results.text_table import GAP
from ..storage.project import ROOT
from ..storage.run_dir import RunDir
from ..training.models import train_module
from .elements import pairs, table, tag
from .received import read_no_link

LOG_LINES = 40
LOG_BYTES = 65536

#: Columns of measured inference: heading with its unit, field, units of the field in one of the heading, decimals.
INFERENCE: tuple[tuple[str, str, int, int], ...] = (
    ("batch size", "batch_size", 1, 0), ("images per second", "images_per_second", 1, 1),
    ("latency per batch, ms (median)", "latency_ms", 1, 3), ("tensors at peak, MiB", "tensor_peak", MIB, 2),
    ("allocator peak, MiB", "allocator_peak", MIB, 2),
)  # fmt: skip


def run_section(run: RunRecord) -> str:
    """Return the section of one run, open where it failed. What cannot be shown costs this section alone."""
    opened = " open" if run.state in ("failed", "diverged") else ""
    try:
        content = "".join(_parts(run))
    except (RecursionError, OverflowError, ValueError) as error:
        reason = f"its files hold what cannot be shown ({type(error).__name__})"
        content = tag("summary", tag("code", escape(run.name)), f" · {reason}")
    return f'<details id="{escape(run.name)}"{opened}>{content}</details>'


def _parts(run: RunRecord) -> list[str]:
    last = run.metrics[-1] if run.metrics else {}
    accuracy, epoch = number(last.get("test_accuracy")), last.get("epoch")
    progress = "no epoch is done" if accuracy is None else f"{accuracy:.2f} % after epoch {epoch}"
    state = tag("span", escape(run.exclusion_reason), class_="bad") if run.exclusion_reason else "done"
    settings = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True).strip()
    parts = [tag("summary", tag("code", escape(run.name)), f" · {state} · {escape(progress)}")]
    if run.path is None:  # its folder is a link, and was not read
        return parts
    parts += [
        tag("p", "To repeat this run:"),
        tag("pre", escape(command_of(run))),
        tag("details", tag("summary", "config.yaml, which it reads"), tag("pre", escape(settings))),
    ]
    inference = run.summary.get("inference")
    shown = {*run.config, "inference"} if isinstance(inference, dict) else set(run.config)
    measured = {name: value for name, value in run.summary.items() if name not in shown}
    if measured:
        parts += [tag("p", "What it measured:"), pairs(measured)]
    if isinstance(inference, dict):
        parts += [tag("p", "Inference, measured with the trained model:"), inference_table(inference)]
    if tail := log_tail(run):
        parts += [tag("p", f"The end of its log (up to {LOG_LINES} lines):"), tag("pre", escape(tail))]
    return parts


def inference_table(inference: dict[str, Any]) -> str:
    """Return speed and memory by batch size, and what the stored weights need, as a table and sentences."""
    batches = inference.get("batches")
    rows = [row for row in batches if isinstance(row, dict)] if isinstance(batches, list) else []
    shown = [column for column in INFERENCE if any(number(row.get(column[1])) is not None for row in rows)]

    def text(row: dict[str, Any], field: str, unit: int, digits: int) -> str:
        value = number(row.get(field))
        return GAP if value is None else f"{value / unit:,.{digits}f}"

    parts = [
        table(
            [heading for heading, *_ in shown],
            [[text(row, field, unit, digits) for _, field, unit, digits in shown] for row in rows],
        )
    ]
    stored, compressed = number(inference.get("checkpoint_bytes")), number(inference.get("compressed_bytes"))
    if stored and compressed:
        sizes = f"Stored weights: {stored / MIB:,.2f} MiB, {compressed / MIB:,.2f} MiB after zlib."
        parts.append(tag("p", sizes, class_="faint"))
    dense = "Pruned weights are zeros in dense tensors: speed and memory are those of the dense model."
    limit = "Batch sizes double up to 256, or to the number of test images if there are fewer."
    return "".join([*parts, tag("p", f"{dense} {limit}", class_="faint")])


def log_tail(run: RunRecord) -> str:
    """Return the last lines of the run's log; at most 64 KiB are read, however long it is."""
    content = read_no_link(RunDir(run.path).log, LOG_BYTES, tail=True) if run.path else None
    return "\n".join((content or b"").decode(errors="replace").splitlines()[-LOG_LINES:])


def project_path(path: Path) -> Path:
    """Return `path` from the root of the project if it lies there, else from the root of the file system."""
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def command_of(run: RunRecord) -> str:
    """Return the command that trains this run again, from the root of the repository."""
    assert run.path is not None
    path = project_path(run.path)
    again = path.parent.with_name(f"{path.parent.name}-again") / path.name
    return shlex.join(
        ["python", "-m", train_module(run.model), "--config", f"{path}/config.yaml", "--output", str(again)]
    )
