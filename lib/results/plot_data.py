"""Results as one small file: all that the pictures need, and nothing else.

`shrink` thins and rounds. Pictures are always drawn from shrunk results, so that those redrawn from the file
are the same bytes as those drawn from the results folder: `to_text` and `from_text` lose nothing.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..monitor.summary import of_training
from ..storage.files import jsonable
from .display_names import CATEGORIES
from .records import Results, RunRecord, number

LIMIT = 300 * 1024  # bytes of one data file; git keeps every version of it
SAMPLED = ("process_mib", "device_used_mib", "host_rss_mib")

CONFIG = (
    "model", "optimizer", "pruning_method", "target_sparsity", "variant", "seed", "dataset", "device", "precision",
    "epochs", "batch_size", "width", "train_images", "mode", "ranking", "pruning_start", "pruning_end",
)  # fmt: skip
SUMMARY = (
    "final_accuracy", "best_accuracy", "best_epoch", "final_sparsity", "parameters", "prunable", "seconds",
    "device", "memory", "memory_peak", "allocator_peak", "memory_predicted", "synthetic", "sampled_in_training",
    "inference", "extended_from_epochs", "grown_from",
)  # fmt: skip
METRICS = (
    "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_accuracy", "sparsity",
    "epoch_seconds", "evaluation_seconds", "time",
)  # fmt: skip


def rounded(value: Any, digits: int = 6) -> Any:
    """Return `value` with its floats, however deep, cut to so many significant digits; non-finite ones are None."""
    if isinstance(value, float):
        short = float(f"{value:.{digits}g}")
        return jsonable(int(short) if short.is_integer() and abs(short) < 1e15 else short)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value


def shrink(results: Results, points: int = 120) -> Results:
    """Return the same results, thinned to at most `points` samples a run and rounded to what a picture can show."""
    runs = tuple(_shrink_run(run, points) for run in results.runs)
    small = replace(
        results,
        runs=runs,
        environment=_machine(results.environment),
        overrides=_portable(results.overrides),
        path=None,
    )
    if points > 8 and len(to_text(small).encode()) > LIMIT:
        return shrink(results, points // 2)
    return small


def _portable(overrides: dict[str, Any]) -> dict[str, Any]:
    """The NAME=value that decide what is trained; a data folder below the user's home begins with ~."""
    home = re.compile(rf"{re.escape(str(Path.home()))}(?=/|$)")
    kept = {name: value for name, value in overrides.items() if name != "RESULTS_DIR"}
    return {n: home.sub("~", str(value), count=1) if n == "DATA_DIR" else value for n, value in kept.items()}


def for_others(results: Results) -> Results:
    """Return shrunk results without the folder of a data set that everybody has: it says nothing on another machine.

    That of one's own images stays, since the recipe cannot do without one.
    """
    if any(run.config.get("dataset") == "image_folder" for run in results.runs):
        return results
    return replace(results, overrides={n: value for n, value in results.overrides.items() if n != "DATA_DIR"})


def _machine(environment: dict[str, Any]) -> dict[str, Any]:
    """What a reader of the pictures needs to know of the machine; its name and paths stay at home."""
    versions, git = environment.get("versions") or {}, environment.get("git") or {}
    return _pick(
        {
            "device": environment.get("device"),
            "cores": environment.get("cores"),
            "python": environment.get("python"),
            "versions": _pick(versions, ("torch",)) or None,
            "git": _pick(git, ("commit", "dirty")) or None,
        },
        ("device", "cores", "python", "versions", "git"),
    )


def _shrink_run(run: RunRecord, points: int) -> RunRecord:
    run = replace(run, samples=_of_its_device(run.samples))
    sampled_figures = sampled(run)
    if run.variant:  # its pictures show how it ended, and the memory it held until then
        before = [_pick(row, ("epoch", "time", "memory")) for row in run.metrics[:-1]]
        run = replace(run, metrics=[*before, *run.metrics[-1:]], samples=[], importance=[])
    times = [number(row.get("time")) for row in (*run.samples, *run.metrics)]
    origin = number(run.status.get("started")) or min((t for t in times if t is not None), default=0.0)
    metrics = [_pick(row, METRICS) | {"memory": row.get("memory")} for row in _thin(run.metrics, 2 * points)]
    for row in metrics:
        row["memory"] = _pick(row["memory"] or {}, (*CATEGORIES, "allocator_peak"))
    if run.metrics and isinstance(run.metrics[-1].get("layer_sparsity"), dict):
        metrics[-1]["layer_sparsity"] = run.metrics[-1]["layer_sparsity"]
    samples = [_pick(row, ("time", "phase", *SAMPLED)) for row in _thin_samples(run.samples, points)]
    return replace(
        run,
        config=_pick(run.config, CONFIG),
        status=_short_reason(_pick(run.status, ("state", "reason", "epochs"))),
        summary=rounded(_pick(run.summary | {"inference": _inference(run)} | sampled_figures, SUMMARY)),
        metrics=[rounded(_since(row, origin)) for row in metrics],
        samples=[rounded(_since(row, origin)) for row in samples],
        importance=rounded(_spread(run.importance, 3), 4),
        path=None,
    )


def _of_its_device(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a machine with several GPUs the samples of the one that the run had memory on, else of the first."""
    gpus = [str(row.get("gpu")) for row in samples]
    held = [gpu for gpu, row in zip(gpus, samples, strict=True) if number(row.get("process_mib")) is not None]
    device = max(dict.fromkeys(held), key=held.count, default=gpus[0] if gpus else "")
    return [row for gpu, row in zip(gpus, samples, strict=True) if gpu == device]


def _inference(run: RunRecord) -> dict[str, Any] | None:
    """Of the measured inference only speed and memory by batch size."""
    measured = run.summary.get("inference")
    rows = measured.get("batches") if isinstance(measured, dict) else None
    if not isinstance(rows, list):
        return None
    return {
        "batches": [
            _pick(row, ("batch_size", "tensor_peak", "images_per_second")) for row in rows if isinstance(row, dict)
        ]
    }


def _pick(record: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those of `names` that a record holds; nothing of what is no record."""
    record = record if isinstance(record, dict) else {}
    return {name: record[name] for name in names if record.get(name) is not None}


def _short_reason(status: dict[str, Any]) -> dict[str, Any]:
    """A reason of one line, without the folders of the user's machine."""
    if status.get("reason") is None:
        return status
    words = " ".join(str(status["reason"]).split())
    return status | {"reason": re.sub(r"(?<![\w.])(?:/[^\s/:]+)+/(?=[^\s/:]+)", "", words)[:160]}


def _since(row: dict[str, Any], origin: float) -> dict[str, Any]:
    """`row` with its time in seconds since `origin`, to a tenth; without one that is no number."""
    time = number(row.get("time"))
    rest = {name: value for name, value in row.items() if name != "time"}
    return rest if time is None else rest | {"time": round(time - origin, 1)}


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _thin(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    return _spread(rows, max(most, 50))


def _thin_samples(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most` samples: the largest of each stretch, since memory curves are read for their peaks."""
    if len(rows) <= most:
        return list(rows)
    bounds = [round(i * len(rows) / most) for i in range(most + 1)]
    stretches = [rows[a:b] for a, b in itertools.pairwise(bounds)]
    return [max(stretch, key=lambda row: [number(row.get(name)) or 0.0 for name in SAMPLED]) for stretch in stretches]


def sampled(run: RunRecord) -> dict[str, Any]:
    """Return mean and peak in MiB of each sampled figure over the samples of training, as a part of the summary."""
    by_measure: dict[str, dict[str, float]] = {}
    for name in SAMPLED:
        known = [value for row in of_training(run.samples) if (value := number(row.get(name))) is not None]
        if known:
            by_measure[name] = {"mean": statistics.fmean(known), "peak": max(known)}
    return {"sampled_in_training": by_measure} if by_measure else {}


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns; a column that holds one value throughout is that value alone."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name == "memory":
            columns[name] = _columns([value or {} for value in values])
        elif name == "layer_sparsity":
            columns[name] = values[-1]
        else:
            columns[name] = values if any(value != values[0] for value in values) else values[0]
    return columns


def _rows(columns: dict[str, Any], count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, column in columns.items():
        if name == "layer_sparsity":
            rows[-1][name] = column
            continue
        values = _rows(column, count) if name == "memory" else column if isinstance(column, list) else [column] * count
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[name] = value
    return rows


def _packed(run: RunRecord) -> dict[str, Any]:
    packed: dict[str, Any] = {
        "name": run.name,
        "config": run.config,
        "status": run.status,
        "summary": run.summary,
    }
    for name, rows in (("metrics", run.metrics), ("samples", run.samples)):
        packed[name] = {"rows": len(rows), "columns": _columns(rows)}
    if run.importance:
        packed["importance"] = run.importance
    return packed


def to_text(results: Results) -> str:
    """Return shrunk results as JSON, a run a line, so that a change shows as a small difference."""
    head = {
        "name": results.name,
        "chosen_by": results.chosen_by,
        "overrides": results.overrides,
        "environment": results.environment,
        "planned": list(results.planned),
    }
    lines = [json.dumps(jsonable(_packed(run)), separators=(",", ":"), ensure_ascii=False) for run in results.runs]
    opening = json.dumps(jsonable(head), ensure_ascii=False)[:-1]
    return opening + ', "runs": [\n' + ",\n".join(lines) + "\n]}\n"


def from_text(text: str) -> Results:
    """Return what `to_text` wrote. Raises ValueError or KeyError when it did not."""
    data = json.loads(text)
    runs = []
    for packed in data["runs"]:
        tables: dict[str, Any] = {
            name: _rows(packed[name]["columns"], packed[name]["rows"]) for name in ("metrics", "samples")
        }
        fields = {name: packed[name] for name in ("name", "config", "status", "summary")}
        runs.append(RunRecord(**fields, **tables, importance=packed.get("importance", [])))
    planned, overrides = tuple(data["planned"]), data["overrides"]
    chosen_by = data.get("chosen_by", "")
    return Results(
        data["name"], tuple(runs), data["environment"], planned=planned, overrides=overrides, chosen_by=chosen_by
    )
