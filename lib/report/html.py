"""One self-contained HTML page about a results folder."""

from __future__ import annotations

import base64
import string
import time
from collections.abc import Iterable
from html import escape
from pathlib import Path

from ..results import plot_data
from ..results.display_names import MODEL_NAMES
from ..results.findings import findings
from ..results.load import load
from ..results.recipe import recipe
from ..results.records import Results, number
from ..results.remarks import remarks
from ..results.summary_table import columns, records
from ..results.text_table import shortened
from ..storage.files import write_atomic
from ..storage.run_dir import ResultsDir
from . import publish
from .elements import pairs, paragraphs, tag
from .received import read_no_link, read_png
from .run_section import project_path, run_section

TEMPLATE = Path(__file__).with_name("report.html")
CONFIG_BYTES = 2**20


def results_table(all_results: Results) -> str:
    """Return the table of summary.md; its headings sort it."""
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
    """Yield the pictures of each model, embedded: those in graphs/ if no run has changed since, else drawn now."""
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
        yield paragraphs(messages, "faint")


def drawn_pictures(folder: Path, all_results: Results, model: str) -> dict[str, bytes] | None:
    """Return the files of graphs/ in the order of `plots.draw`, or None if a run has written something since."""
    graphs = folder / "graphs" / model if len(all_results.models) > 1 else folder / "graphs"
    if (folder / "graphs").is_symlink() or graphs.is_symlink():
        return None
    files = sorted(graphs.glob("*.png"), key=lambda path: path.lstat().st_mtime_ns)
    runs = [run.path for run in all_results.runs if run.model == model and run.path]
    names = ("metrics.jsonl", "status.json", "summary.json", "gpu.jsonl")
    written = [path.stat().st_mtime for run in runs for name in names if (path := run / name).is_file()]
    if not files or files[0].lstat().st_mtime <= max(written, default=0.0):
        return None
    contents = {path.name: read_png(path) for path in files}
    return {name: content for name, content in contents.items() if content is not None}


def build(folder: Path) -> str:
    """Return the whole page."""
    everything = load(folder)
    if not everything.runs:
        raise FileNotFoundError(f"{folder}: no runs in this folder")
    paths = ResultsDir(folder)
    done, total = sum(run.is_complete for run in everything.runs), max(len(everything.runs), len(everything.planned))
    started = min((t for run in everything.runs if (t := number(run.status.get("started")))), default=None)
    config = (read_no_link(paths.config, CONFIG_BYTES) or b"").decode(errors="replace")
    chosen = "\n".join(line for line in config.splitlines() if line and not line.startswith("#"))
    sections = {
        "Results": results_table(everything)
        + paragraphs(remarks(everything), "faint")
        + paragraphs(shortened(everything.exclusions()), "bad"),
        "Pictures": "".join(pictures(everything, folder)),
        "Runs": "".join(run_section(run) for run in everything.runs),
        "Configuration": tag("p", "Repeat all of it with:")
        + tag("pre", escape(recipe(everything, str(project_path(folder)))))
        + tag("details", tag("summary", "The .config as used"), tag("pre", escape(chosen or "not recorded"))),
        "Environment": pairs(everything.environment),
    }
    links = "".join(tag("a", escape(name), href=f"#{name.lower()}") for name in sections)
    runs = f"{done} of {total} run{'s' * (total != 1)} done{_when(started)}"
    head = tag("h1", escape(everything.name)) + paragraphs([runs], "faint")
    head += paragraphs(findings(everything))
    body = head + tag("nav", links)
    body += "".join(tag("h2", escape(name), id=name.lower()) + content for name, content in sections.items())
    page = string.Template(TEMPLATE.read_text())
    return page.substitute(title=escape(f"AdamWPrune: {everything.name}"), body=body)


def _when(seconds: float | None) -> str:
    """A time of the clock as the head of the page says it; nothing for one that no calendar has."""
    try:
        return f", started {time.strftime('%Y-%m-%d %H:%M', time.localtime(seconds))}" if seconds else ""
    except (OverflowError, ValueError, OSError):
        return ""


def write_report(folder: Path) -> str:
    """Write report.html into a results folder; return the sentence that says so.

    Raises FileNotFoundError, with the sentence for the user, where the folder holds no runs.
    """
    page = build(folder)
    path = ResultsDir(folder).report
    write_atomic(path, page)
    return f"written: {path} ({len(page.encode()) / 2**20:.1f} MiB)"
