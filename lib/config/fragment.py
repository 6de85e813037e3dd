"""Read the text of a .config or defconfig line by line, more strictly than Kconfig does.

A byte-order mark, carriage returns and comments behind a value are taken away; whatever then is no assignment is
a problem with its line. What the symbols mean is not known here. No import of torch, nor of kconfiglib.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NOT_SET = re.compile(r"#\s*CONFIG_(\w+) is not set(\s*#.*)?$")
_ASSIGNMENT = re.compile(r"CONFIG_(\w+)\s*=\s*(.*)$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(#.*)?$')
_UNQUOTED = re.compile(r'([^\s"#]*)(\s*|\s+#.*)$')
_MARKER = re.compile(r"(<{7}|={7}|>{7}|\|{7})(\s|$)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class Assignment:
    """`SYMBOL=value` as it stands in line `line` of a file. Without quotes, `quoted` says whether it had some."""

    name: str
    value: str
    line: int
    quoted: bool = False

    @property
    def text(self) -> str:
        """Return the assignment as it would be typed."""
        return f'{self.name}="{self.value}"' if self.quoted else f"{self.name}={self.value}"


def parse(content: bytes) -> tuple[list[Assignment], list[tuple[int, str]]]:
    """Return the assignments of a file's content, and its problems as pairs of line and sentence."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [(content[: error.start].count(b"\n") + 1, "not UTF-8 text")]
    found: dict[str, Assignment] = {}
    problems: list[tuple[int, str]] = []
    for number, raw in enumerate(re.split("\r\n|\r|\n", text), start=1):
        line = raw.strip()
        try:
            assignment = _assignment(line, number)
        except ValueError as error:
            problems.append((number, f"{_CONTROL.sub('?', line)[:120]}: {error}"))
            continue
        if assignment is None:
            continue
        first = found.setdefault(assignment.name, assignment)
        if first is not assignment:
            problems.append((number, f"{assignment.text}: assigned before in line {first.line}"))
    return list(found.values()), problems


def _assignment(line: str, number: int) -> Assignment | None:
    """Return what one line assigns, None for blank lines and comments; ValueError with the reason for the rest."""
    if _MARKER.match(line):
        raise ValueError("a merge-conflict marker; resolve the conflict")
    if match := _NOT_SET.match(line):
        return Assignment(match[1], "n", number)
    if not line or line.startswith("#"):
        return None
    match = _ASSIGNMENT.match(line)
    if match is None:
        raise ValueError("not an assignment; expected CONFIG_NAME=value")
    name, value = match[1], match[2]
    if _CONTROL.search(value):
        raise ValueError("a control character in the value")
    if quoted := _QUOTED.match(value):
        return Assignment(name, re.sub(r"\\(.)", r"\1", quoted[1]), number, quoted=True)
    if plain := _UNQUOTED.match(value):
        return Assignment(name, plain[1], number)
    raise ValueError('the value is neither one word nor text in double quotes ("...")')
