"""Whatever a YAML text holds, it is read or refused in one line."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml

from lib.storage.safe_yaml import parse_yaml, read_yaml

DEEP = ["[" * 3000, "[" * 100_000]
BOMB = "a: &a [x]\n" + "".join(f"{k}: &{k} [{', '.join([f'*{before}'] * 9)}]\n" for before, k in pairwise("abcdefghij"))
HOSTILE = [
    BOMB,
    "a: &a 1\nb: {<<: *a}",
    "!!int",
    "a: !!bool x",
    "!!timestamp x",
    "!!set [a]",
    "a: 1:" + "00:" * 250 + "0.5",
    *DEEP,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_what_cannot_be_read_is_a_value_error_of_one_line(text: str, loader: type) -> None:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text, loader)
    assert type(caught.value) is ValueError and "\n" not in str(caught.value)


def test_what_can_be_read_is_read() -> None:
    assert parse_yaml(b"a: [1, {b: 2}]") == {"a": [1, {"b": 2}]}
    assert parse_yaml("a: '*b'\nc: 2 * 3 # *d") == {"a": "*b", "c": "2 * 3"}


@pytest.mark.parametrize("content", [None, b"[1, 2", b"- a list", b"\xff\xfe{", b"[" * 20_000])
def test_a_file_without_a_mapping_reads_as_an_empty_one(tmp_path, content):
    path = tmp_path / "matrix.yaml"
    if content is not None:
        path.write_bytes(content)
    assert read_yaml(path) == {}


def test_a_mapping_is_read_from_its_file(tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text("runs: [a, b]\n")
    assert read_yaml(path) == {"runs": ["a", "b"]}
