"""Tables in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: A cell whose figure is not known.
GAP = "–"


def shortened(sentences: Sequence[str], most: int = 20) -> list[str]:
    """The first `most` sentences, and how many more there are."""
    more = len(sentences) - most
    return [*sentences[:most], *([f"... and {more} more"] if more > 0 else [])]


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: set[int]) -> None:
    """A table fitted to the terminal, or plain aligned lines where stdout is none."""
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
        for row in (headings, *rows):
            padded = (
                cell.ljust(width) if i in text_columns else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            print("  ".join(padded).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i in text_columns else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
