"""The few HTML elements that the report is made of. What is put into them is escaped here or by the caller."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import yaml


def tag(name: str, *content: str, **attributes: object) -> str:
    """Return one HTML element. Attributes are escaped here; content must be escaped already."""
    given = "".join(f' {key.strip("_")}="{escape(str(value))}"' for key, value in attributes.items() if value)
    return f"<{name}{given}>{''.join(content)}</{name}>"


def paragraphs(sentences: Iterable[str], class_: str = "") -> str:
    """Return a paragraph for each sentence."""
    return "".join(tag("p", escape(sentence), class_=class_) for sentence in sentences)


def pairs(record: dict[str, Any]) -> str:
    """Return a record as a table of names and values; nested records as YAML."""
    rows = []
    for name, value in record.items():
        text = yaml.safe_dump(value, allow_unicode=True).strip() if isinstance(value, dict | list) else str(value)
        rows.append(tag("tr", tag("th", escape(str(name))), tag("td", escape(text), class_="long")))
    return tag("table", tag("tbody", *rows)) if rows else tag("p", "nothing recorded", class_="faint")


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a table of numbers."""
    head = tag("tr", *(tag("th", escape(heading), class_="n") for heading in headings))
    body = (tag("tr", *(tag("td", escape(cell), class_="n") for cell in row)) for row in rows)
    return tag("table", tag("thead", head), tag("tbody", *body))
