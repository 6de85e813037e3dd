"""Print text that was read elsewhere, on whatever terminal there is. No import of torch."""

from __future__ import annotations

import codecs
import io
import sys

#: What stands for a character that a terminal's encoding lacks. Bars keep their order of height.
LOOKALIKES = str.maketrans(
    {
        **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
        **dict.fromkeys("─━–—−", "-"),
        **dict.fromkeys("│┃", "|"),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("\u00a0\u2009\u202f", " "),
        "·": ".",
        "…": "...",
        "±": "+-",
        "×": "x",
        "°": " deg ",
        "→": "->",
        "≤": "<=",
        "≥": ">=",
    }
)


def visible(text: str, keep: str = "") -> str:
    """Return the text with control and format characters written out, as in ``\\x1b`` and ``\\n``.

    Names of processes, files, hosts and presets, log lines and reasons come from others. A terminal obeys the escape
    sequences in them, a line break in a name breaks a table, and a change of direction (U+202E) shows another text than
    is there.

    Args:
        text: what was read.
        keep: characters that are to stay as they are, such as ``"\\n"`` for a text of several lines.
    """
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return " " if char in "\u00a0\u2009\u202f" else char.encode("unicode_escape").decode("ascii")


def accept_any_encoding() -> None:
    """Let stdout and stderr write any text, whatever the encoding of the terminal.

    What an encoding lacks is written as a lookalike in ASCII, else as ``?``. Call it at the start of a command.
    """
    codecs.register_error("lookalike", _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(LOOKALIKES)
    return "".join(char if char.isascii() else "?" for char in text), error.end
