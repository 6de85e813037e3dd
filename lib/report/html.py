"""One self-contained HTML page about a results folder."""

from __future__ import annotations

import base64
import shlex
import string
import time
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ..results import plot_data
from ..results.display_names import MODEL_NAMES
from ..results.load import load
from ..results.recipe import recipe
from ..results.records import Results, RunRecord, number
from ..results.remarks import remarks
from ..results.summary_table import columns, records
from ..results.text_table import shortened
from ..storage.files import write_atomic
from ..storage.project import ROOT
from ..storage.run_dir import ResultsDir, RunDir
from ..training.models import train_module
from . import publish

TEMPLATE = Path(__file__).with_name("report.html")
LOG_LINES = 40


def tag(name: str, *content: str, **attributes: object) -> str:
    """One HTML element. Attributes are escaped here; content must be escaped already."""
    given = "".join(f' {key.strip("_")}="{escape(str(value))}"' for key, value in attributes.items() if value)
    return f"<{name}{given}>{''.join(content)}</{name}>"


def pairs(record: dict[str, Any]) -> str:
    """A record as a table of names and values; nested records as YAML."""
    rows = []
    for name, value in record.items():
        text = yaml.safe_dump(value, allow_unicode=True).strip() if isinstance(value, dict | list) else str(value)
        rows.append(tag("tr", tag("th", escape(str(name))), tag("td", escape(text), class_="long")))
    return tag("table", tag("tbody", *rows)) if rows else tag("p", "nothing recorded", class_="faint")


def results_table(all_results: Results) -> str:
    """The table of summary.md; its headings sort it."""
    lines = records(all_results)
    shown = columns(lines)
    heads = [
        tag("th", tag("button", escape(column.heading), type="button"), class_="" if column.is_text else "n")
        for column in shown
    ]
    rows = []
    for line in lines:
        cells = []
        for column in shown:
            text = column.text(line)
            value = line[column.field] if column.field else text
            side = "" if column.is_text else ' class="n"'
            cells.append(f'<td{side} data-value="{"" if value is None else escape(str(value))}">{escape(text)}</td>')
        rows.append(tag("tr", *cells, class_="ours" if line["optimizer"] == "adamwprune" else ""))
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="sortable")
    hint = tag("p", "A click on a heading sorts by it.", class_="hint")
    return hint + tag("div", table, class_="scroll")


def pictures(all_results: Results, folder: Path) -> Iterable[str]:
    """The pictures of each model, embedded: those in graphs/ if no run has changed since, else drawn now."""
    for model in all_results.models:
        drawn = drawn_pictures(folder, all_results, model)
        messages: list[str] = []
        if drawn is None:
            files, messages = publish.draw(plot_data.shrink(all_results.of_model(model)))
            drawn = {name: content for name, content in files.items() if content is not None}
        shown = []
        for name, content in drawn.items():
            source = "data:image/png;base64," + base64.b64encode(content).decode()
            title = name.removesuffix(".png").replace("_", " ")
            shown.append(tag("figure", f'<img src="{source}" alt="{escape(title)}" loading="lazy">'))
        yield tag("h3", escape(MODEL_NAMES.get(model, model)))
        yield "".join(shown) or tag("p", "There is nothing to draw yet.", class_="faint")
        yield "".join(tag("p", escape(sentence), class_="faint") for sentence in messages)


def drawn_pictures(folder: Path, all_results: Results, model: str) -> dict[str, bytes] | None:
    """Return the files of graphs/ in the order of `plots.draw`, or None if a run has written something since."""
    graphs = folder / "graphs" / model if len(all_results.models) > 1 else folder / "graphs"
    files = sorted(graphs.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    runs = [run.path for run in all_results.runs if run.model == model and run.path]
    names = ("metrics.jsonl", "status.json", "summary.json", "gpu.jsonl")
    written = [path.stat().st_mtime for run in runs for name in names if (path := run / name).is_file()]
    if not files or files[0].stat().st_mtime <= max(written, default=0.0):
        return None
    return {path.name: path.read_bytes() for path in files}


def log_tail(run: RunRecord) -> str:
    """The last lines of the run's log; at most 64 KiB are read, however long it is."""
    if run.path is None:
        return ""
    try:
        with RunDir(run.path).log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 65536, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def project_path(path: Path) -> Path:
    """Return `path` from the root of the project if it lies there, else from the root of the file system."""
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def command_of(run: RunRecord) -> str:
    """The command that trains this run again, from the root of the repository."""
    assert run.path is not None
    path = project_path(run.path)
    again = path.parent.with_name(f"{path.parent.name}-again") / path.name
    return shlex.join(
        ["python", "-m", train_module(run.model), "--config", f"{path}/config.yaml", "--output", str(again)]
    )


def run_section(run: RunRecord) -> str:
    """What is known about one run, folded up; open where it failed."""
    last = run.metrics[-1] if run.metrics else {}
    accuracy, epoch = number(last.get("test_accuracy")), last.get("epoch")
    progress = "no epoch is done" if accuracy is None else f"{accuracy:.2f} % after epoch {epoch}"
    state = tag("span", escape(run.exclusion_reason), class_="bad") if run.exclusion_reason else "done"
    settings = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True).strip()
    parts = [
        tag("summary", tag("code", escape(run.name)), f" · {state} · {escape(progress)}"),
        tag("p", "To repeat this run:"),
        tag("pre", escape(command_of(run))),
        tag("details", tag("summary", "config.yaml, which it reads"), tag("pre", escape(settings))),
    ]
    measured = {name: value for name, value in run.summary.items() if name not in run.config}
    if measured:
        parts += [tag("p", "What it measured:"), pairs(measured)]
    if tail := log_tail(run):
        parts += [tag("p", f"The end of its log (up to {LOG_LINES} lines):"), tag("pre", escape(tail))]
    opened = " open" if run.state in ("failed", "diverged") else ""
    return f'<details id="{escape(run.name)}"{opened}>{"".join(parts)}</details>'


def build(folder: Path) -> str:
    """The whole page."""
    everything = load(folder)
    paths = ResultsDir(folder)
    done, total = sum(run.is_complete for run in everything.runs), max(len(everything.runs), len(everything.planned))
    begun = min((t for run in everything.runs if (t := number(run.status.get("started")))), default=None)
    when = f", started {time.strftime('%Y-%m-%d %H:%M', time.localtime(begun))}" if begun else ""
    troubles = everything.exclusions()
    config = paths.config.read_text(errors="replace") if paths.config.is_file() else ""
    chosen = "\n".join(line for line in config.splitlines() if line and not line.startswith("#"))
    sections = {
        "Results": results_table(everything)
        + "".join(tag("p", escape(sentence), class_="faint") for sentence in remarks(everything))
        + "".join(tag("p", escape(trouble), class_="bad") for trouble in shortened(troubles)),
        "Pictures": "".join(pictures(everything, folder)),
        "Runs": "".join(run_section(run) for run in everything.runs),
        "Configuration": tag("p", "Repeat all of it with:")
        + tag("pre", escape(recipe(everything, str(project_path(folder)))))
        + tag("details", tag("summary", "The .config as used"), tag("pre", escape(chosen or "not recorded"))),
        "Environment": pairs(everything.environment),
    }
    links = "".join(tag("a", escape(name), href=f"#{name.lower()}") for name in sections)
    head = tag("h1", escape(everything.name)) + tag("p", escape(f"{done} of {total} runs done{when}"), class_="faint")
    body = head + tag("nav", links)
    body += "".join(tag("h2", escape(name), id=name.lower()) + content for name, content in sections.items())
    page = string.Template(TEMPLATE.read_text())
    return page.substitute(title=escape(f"AdamWPrune: {everything.name}"), body=body)


def write_report(folder: Path) -> str:
    """Write report.html into a results folder; return the sentence that says so."""
    page = build(folder)
    path = ResultsDir(folder).report
    write_atomic(path, page)
    return f"written: {path} ({len(page.encode()) / 2**20:.1f} MiB)"
