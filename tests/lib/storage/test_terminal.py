"""Text of others on any terminal: it is shown, and does nothing else."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.storage.terminal import accept_any_encoding, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("python3 train.py", "python3 train.py"),
        ("größe ∞ 模型 🙂", "größe ∞ 模型 🙂"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # the same in one byte
        ("two\nlines\r\tand\x00more", r"two\nlines\r\tand\x00more"),
        ("exe\u202etxt.sh", r"exe\u202etxt.sh"),  # shown from right to left it would end with .exe
        ("\u2028", r"\u2028"),
        ("caf\udce9", r"caf\udce9"),  # a file name that is no UTF-8
        ("12\u202f345", "12 345"),
    ],
)
def test_controls_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_characters_to_keep_stay() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text())
def test_whatever_is_shown_can_be_printed_in_one_line(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable() and len(shown.splitlines()) <= 1
    shown.encode()  # lone surrogates cannot be


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_text_is_written_whatever_the_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    accept_any_encoding()
    print("99.10 ± 0.05 – 模", flush=True)
    expected = {"ascii": b"99.10 +- 0.05 - ?\n", "latin-1": b"99.10 \xb1 0.05 - ?\n"}
    expected |= {"cp1252": b"99.10 \xb1 0.05 \x96 ?\n", "utf-8": "99.10 ± 0.05 – 模\n".encode()}
    assert written.getvalue() == expected[encoding]


def test_bars_keep_their_order_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    accept_any_encoding()
    print("▁▂▃▄▅▆▇█ ━─", flush=True)
    assert written.getvalue() == b"_.:-=+*# --\n"
