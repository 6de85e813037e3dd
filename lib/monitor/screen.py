"""Lay out the terminal's view: tables of devices and processes with small histories, and of summaries."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..storage.terminal import visible
from .summary import MEASURES

BARS = "▁▂▃▄▅▆▇█"
AROUND = 10  # lines beside those of the GPUs: time, host, and a table of a few processes
GAP = "·"  # a moment without a reading; an empty bar would read as zero
UNKNOWN = Text("–", style="dim")


class History:
    """The last values of each device's load and memory, for the sparklines."""

    def __init__(self, longest: int = 300) -> None:
        self.longest = longest
        self.values: dict[tuple[Any, str], deque[float | None]] = {}

    def add(self, device: Any, measure: str, value: float | None) -> None:
        """Add one moment; None where there was no reading."""
        self.values.setdefault((device, measure), deque(maxlen=self.longest)).append(value)

    def line(self, device: Any, measure: str, top: float | None, width: int) -> Text:
        """Return one character a sample, the newest on the right; `top` is the full height (None: the highest seen)."""
        values = list(self.values.get((device, measure), ()))[-max(1, width) :]
        highest = top or max((value for value in values if value is not None), default=0.0) or 1.0
        signs = (GAP if v is None else BARS[min(7, max(0, int(v / highest * 8)))] for v in values)
        return Text("".join(signs), style="cyan", no_wrap=True)


def plain(value: Any, style: str = "") -> Text:
    """Return what was read elsewhere as it is: neither markup nor a terminal's escape sequences are obeyed."""
    return Text(visible(str(value)), style=style)


def heat(share: float) -> str:
    """Return the colour for a share of what there is."""
    return "green" if share < 0.6 else "yellow" if share < 0.85 else "red"


def figure(value: float | None, unit: str = "", digits: int = 0) -> Text:
    """Return a number with its unit, or a dash where it is not known."""
    return UNKNOWN if value is None else Text(f"{value:,.{digits}f}{unit}", no_wrap=True)


def gauge(value: float | None, top: float | None, text: str, width: int = 10) -> Text:
    """Return a bar of `width` characters and the figure beside it."""
    if value is None:
        return UNKNOWN
    if not top:
        return Text(text, no_wrap=True)
    share = min(1.0, max(0.0, value / top))
    full = round(share * width)
    return Text.assemble(("━" * full, heat(share)), ("─" * (width - full), "dim"), f" {text}", no_wrap=True)


def load_of(gpu: dict[str, Any]) -> float | None:
    """Return the load in percent. Where only the watched processes can be asked, it is theirs."""
    return gpu.get("gpu_utilization", gpu.get("process_utilization"))


def memory_of(gpu: dict[str, Any], width: int) -> Text:
    """Return used and total memory behind a bar of `width`; some devices tell their total alone."""
    used, total = gpu.get("device_used_mib"), gpu.get("device_total_mib")
    if used is None and total:
        return Text(f"– / {total:,.0f} MiB", style="dim")
    return gauge(used, total, f"{used or 0:,.0f}" + (f" / {total:,.0f}" if total else "") + " MiB", width)


def one_line_each(gpus: list[dict[str, Any]], width: int) -> Table:
    """Show each GPU in one line, where three for each would push host and processes off the screen."""
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for gpu in gpus:
        load, readings = load_of(gpu), Text("  ").join(sensors(gpu, width >= 140))
        gauges = gauge(load, 100.0, f"{load or 0:.0f} %", 6), memory_of(gpu, 6)
        table.add_row(plain(f"{gpu['gpu']}  {gpu['name']}"), *gauges, readings)
    return table


def device(gpu: dict[str, Any], key: Any, history: History, width: int) -> Group:
    """Show one GPU in three lines: its name with power, heat and clocks, then load and memory with their past."""
    load = load_of(gpu)
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    head.add_row(plain(f"{gpu['gpu']}  {gpu['name']}", style="bold"), Text("   ").join(sensors(gpu, width >= 100)))
    lines = Table.grid(padding=(0, 1))
    wide = max(28, min(36, width // 3))  # a gauge of 6 and two sizes of six digits
    for column_width in (9, wide):
        lines.add_column(width=column_width, no_wrap=True)
    lines.add_column(no_wrap=True)
    past = width - 13 - wide
    bar = 6 if width < 100 else 14
    for measure, top, shown in (
        ("load", 100.0, gauge(load, 100.0, f"{load or 0:.0f} %", bar)),
        ("memory", gpu.get("device_total_mib"), memory_of(gpu, bar)),
    ):
        lines.add_row(Text(f"   {measure}", style="dim"), shown, history.line(key, measure, top, past))
    return Group(head, lines)


def sensors(gpu: dict[str, Any], wide: bool) -> list[Text]:
    """Return power, temperature, and where there is room fan and clocks; what the device does not tell is left out."""
    found = []
    if "power_w" in gpu:
        limit = f" / {gpu['power_limit_w']:,.0f}" if "power_limit_w" in gpu else ""
        found.append(figure(gpu["power_w"], f"{limit} W"))
    if "temperature_c" in gpu:
        found.append(figure(gpu["temperature_c"], " °C"))
    fan = next((name for name in ("fan_percent", "fan_rpm") if name in gpu), None)
    if fan and wide:
        found.append(figure(gpu[fan], " % fan" if fan == "fan_percent" else " rpm"))
    clocks = [f"{gpu[name]:,.0f}" for name in ("clock_mhz", "memory_clock_mhz") if name in gpu]
    if clocks and wide:
        found.append(Text(" / ".join(clocks) + " MHz"))
    return found


def host_lines(seen: dict[str, Any], history: History, pid: int | None, width: int) -> Table:
    """Show the memory of the machine, and of the watched process tree."""
    table = Table.grid(padding=(0, 1))
    for column_width in (16, 34):  # two sizes of seven digits
        table.add_column(width=column_width, no_wrap=True)
    table.add_column(no_wrap=True)
    host = seen["host"]
    rows = [("host memory", "host_used_mib", host.get("host_total_mib"))]
    if pid is not None:
        rows.append((f"process {pid}", "host_rss_mib", host.get("host_total_mib")))
    for label, measure, top in rows:
        value = host.get(measure)
        history.add("host", measure, value)
        text = f"{value or 0:,.0f}" + (f" / {top:,.0f}" if top and measure == "host_used_mib" else "") + " MiB"
        past = history.line("host", measure, top if measure == "host_used_mib" else None, width - 53)
        table.add_row(Text(label, style="dim"), gauge(value, top, text, 8), past)
    return table


def processes(seen: dict[str, Any]) -> Table:
    """Show who uses the devices; without devices, who uses the host's memory."""
    table = Table(box=SIMPLE_HEAD, expand=True, border_style="dim")
    if seen["gpus"]:
        table.add_column("GPU", justify="right", no_wrap=True)
    table.add_column("pid", justify="right", no_wrap=True)
    table.add_column("process", ratio=1, no_wrap=True, overflow="ellipsis")
    if seen["gpus"]:
        table.add_column("GPU MiB", justify="right", no_wrap=True)
    table.add_column("host MiB", justify="right", no_wrap=True)
    for gpu in seen["gpus"]:
        for row in gpu["processes"]:
            name = plain(row["name"]) if "name" in row else Text("not visible from here", style="dim")
            cells = (Text(str(gpu["gpu"])), Text(str(row["pid"])), name)
            table.add_row(*cells, figure(row.get("mib")), figure(row.get("host_rss_mib")))
    for row in seen.get("processes", []):
        table.add_row(Text(str(row["pid"])), plain(row.get("name", "")), figure(row["host_rss_mib"]))
    return table


def page(
    seen: dict[str, Any],
    history: History,
    notes: Iterable[str],
    pid: int | None,
    width: int,
    height: int | None = None,
    every: float | None = None,
) -> Group:
    """Lay out one snapshot; a live screen has a height in lines, and is drawn `every` so many seconds."""
    head = Text.assemble(("gputop ", "bold"), time.strftime("%H:%M:%S", time.localtime(seen["time"])))
    if every is not None:
        head.append(f"   every {every:g} s, Ctrl-C ends", style="dim")
    parts: list[Any] = [head]
    if not seen["gpus"]:
        parts.append(Text("No GPU to be seen; this is the host's memory.", style="yellow"))
    parts += [plain(note, style="yellow") for note in notes]
    for number, gpu in enumerate(seen["gpus"]):
        history.add((gpu["vendor"], number), "load", load_of(gpu))
        history.add((gpu["vendor"], number), "memory", gpu.get("device_used_mib"))
    if height is not None and 3 * len(seen["gpus"]) + AROUND > height:
        parts.append(one_line_each(seen["gpus"], width))
    else:
        for number, gpu in enumerate(seen["gpus"]):
            parts.append(device(gpu, (gpu["vendor"], number), history, width))
    return Group(*parts, host_lines(seen, history, pid, width), processes(seen))


def summary_tables(summary: dict[str, Any], title: str) -> Group:
    """Show a recording's summary: a table for each device, one row for each phase and reading."""
    parts: list[Any] = [plain(title, style="bold")]
    for device, phases in summary["devices"].items():
        table = Table(
            box=SIMPLE_HEAD, title=plain(device), title_justify="left", border_style="dim", padding=(0, 1, 0, 0)
        )
        for heading in ("phase", "seconds", "reading"):
            table.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=True)
        for heading in ("mean", "p50", "p95", "peak", "samples"):
            table.add_column(heading, justify="right", no_wrap=True)
        for phase, found in phases.items():
            label, seconds = phase, f"{found['seconds']:,.1f}"
            for measure, name in MEASURES.items():
                if measure in found:
                    row = found[measure]
                    cells = [f"{row[column]:,.1f}" for column in ("mean", "p50", "p95", "peak")]
                    table.add_row(plain(label), seconds, name, *cells, str(row["samples"]))
                    label = seconds = ""
            table.add_section()
        parts.append(table)
    if not summary["devices"]:
        parts.append(Text("no samples", style="yellow"))
    if summary["torn_lines"]:
        parts.append(Text(f"{summary['torn_lines']} torn lines left out", style="yellow"))
    return Group(*parts)


def comparison_table(rows: list[dict[str, Any]], a: str, b: str) -> Table:
    """Show two recordings side by side, training phases only."""
    caption = Text.assemble("A = ", plain(a), "\nB = ", plain(b))
    table = Table(box=SIMPLE_HEAD, border_style="dim", caption=caption, caption_justify="left")
    table.add_column("device")
    table.add_column("training")
    for heading in ("A", "B", "B - A", "B / A"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ratio = f"{row['ratio']:.3f}" if "ratio" in row else "–"
        label = f"{MEASURES.get(row['measure'], row['measure'])}, {row['figure']}"
        cells = (f"{row['a']:,.1f}", f"{row['b']:,.1f}", f"{row['difference']:+,.1f}", ratio)
        table.add_row(plain(row["device"]), label, *cells)
    return table
