"""Describe what values a Kconfig symbol may take, and turn text into a value and back.

Kconfig has no floating-point numbers. A number such as a learning rate is a string symbol whose help ends in a
line `Range: above 0 to 10.`; `above` and `below` exclude the bound, `, or empty` allows no value at all.
No import of torch, nor of kconfiglib.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

Value = int | float | bool | str | None

_RANGE = re.compile(
    r"^Range: (?P<above>above )?(?P<low>\S+) to (?P<below>below )?(?P<high>\S+?)(?P<empty>, or empty)?\.$"
)


@dataclass(frozen=True)
class Spec:
    """Hold what the menus say about one symbol. `kind` is bool, int, float, string or choice."""

    name: str
    kind: str
    prompt: str = ""
    help: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False  # low itself is not allowed
    below: bool = False  # high itself is not allowed
    optional: bool = False  # an empty value is allowed and means "not set"
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Return the values that parse() takes, in words."""
        if self.kind == "bool":
            return "y or n"
        if self.kind == "choice":
            return ", ".join(self.choices)
        if self.low is None or self.high is None:
            return "any text" if self.kind == "string" else "any whole number"
        low = f"above {_plain(self.low)}" if self.above else _plain(self.low)
        high = f"below {_plain(self.high)}" if self.below else _plain(self.high)
        return f"{low} to {high}"

    def parse(self, text: str) -> Value:
        """Return the value that `text` stands for; ValueError with the reason where there is none."""
        if not text.strip():
            if self.optional:
                return None
            raise ValueError("empty value")
        if self.kind == "string":
            if not text.isprintable():
                raise ValueError("a control character in the value")
            return text
        if self.kind == "bool":
            if text not in ("y", "n"):
                raise ValueError("not y or n")
            return text == "y"
        if self.kind == "choice":
            if text not in self.choices:
                raise ValueError("no such choice")
            return text
        number = _whole(text) if self.kind == "int" else _decimal(text)
        self._check_range(number)
        return number

    def _check_range(self, number: float) -> None:
        if self.low is not None and (number < self.low or (self.above and number == self.low)):
            raise ValueError("too small")
        if self.high is not None and (number > self.high or (self.below and number == self.high)):
            raise ValueError("too large")


def float_spec(name: str, prompt: str, help_text: str) -> Spec | None:
    """Return the spec of a number whose help ends with its range; None where it states none."""
    lines = help_text.strip().splitlines()
    match = _RANGE.match(lines[-1].strip()) if lines else None
    if match is None:
        return None
    above, below, optional = bool(match["above"]), bool(match["below"]), bool(match["empty"])
    low, high = float(match["low"]), float(match["high"])
    return Spec(name, "float", prompt, help_text, low, high, above, below, optional)


def as_text(value: Value) -> str:
    """Return the text that Spec.parse turns back into `value`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "y" if value else "n"
    return str(value)


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return ` (did you mean A, B?)` for a misspelt name, or nothing where no name is near."""
    found = difflib.get_close_matches(name.upper(), {n.upper() for n in names}, n=count, cutoff=0.6)
    spelt = {n.upper(): n for n in names}
    return f" (did you mean {', '.join(spelt[n] for n in found)}?)" if found else ""


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError("not a whole number")
    return int(text)


def _decimal(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError("not a finite number")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else f"{number:g}"
