"""`make bench` refuses what it cannot measure, in one sentence."""

from __future__ import annotations

import importlib

import pytest
import torch

from scripts import bench


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rounds", "0"], "--rounds 0: at least 1 is expected"),
        (["speed"], "unknown part speed; there are optimizer, training"),
        (["--compare", "/nowhere.json"], "cannot read /nowhere.json"),
        (["--device", "cuda"], "--device cuda: torch sees no GPU"),
    ],
)
def test_wrong_usage_is_exit_2_and_measures_nothing(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as end:
        bench.main(words)
    assert end.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize("part", ["optimizer", "training", "loop", "precision", "start", "growth"])
def test_every_part_that_can_be_asked_for_is_there(part: str) -> None:
    assert callable(importlib.import_module(f"scripts.benchmarks.{bench.PARTS[part]}").measure)
