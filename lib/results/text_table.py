"""Tables in a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from ..storage.terminal import visible

#: A cell whose figure is not known.
GAP = "–"


def shortened(sentences: Sequence[str], most: int = 20) -> list[str]:
    """Return the first `most` sentences, and how many more there are."""
    more = len(sentences) - most
    return [*sentences[:most], *([f"... and {more} more"] if more > 0 else [])]


def print_sentences(sentences: Iterable[str], indent: str = "") -> None:
    """Print a line for each sentence; control characters in what was read elsewhere are written out."""
    for sentence in sentences:
        print(indent + visible(sentence))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: set[int], droppable: Sequence[int] = ()
) -> None:
    """Print aligned columns; those not in `text_columns` to the right.

    A terminal that is too narrow goes without the `droppable` columns, one after the other, and is told which.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    kept = list(range(len(headings)))
    folded = [textwrap.wrap(heading, 9, break_long_words=False) for heading in headings]
    widths = [max(map(len, [*folded[i], *(row[i] for row in rows)]), default=0) for i in kept]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
    dropped = []
    for i in droppable:
        if sum(widths[k] + 2 for k in kept) - 2 > room:
            kept.remove(i)
            dropped.append(headings[i])
    height = max(len(folded[i]) for i in kept)
    lines = [["" if height - n > len(folded[i]) else folded[i][n - height] for i in kept] for n in range(height)]
    lines += [["-" * widths[i] for i in kept], *([row[i] for i in kept] for row in rows)]
    for line in lines:
        cells = [
            cell.ljust(widths[i]) if i in text_columns else cell.rjust(widths[i])
            for i, cell in zip(kept, line, strict=True)
        ]
        print("  ".join(cells).rstrip())
    if dropped:
        print(f"Too narrow for: {', '.join(dropped)}.")
