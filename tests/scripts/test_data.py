"""`make data` says what each data set holds, or what is wrong with it."""

from __future__ import annotations

import pytest

from scripts import data


def test_every_data_set_is_fetched_once_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert data.main(["MODEL=lenet5", "DATASET=synthetic", "SEEDS=3"]) == 0
    assert capsys.readouterr().out == "SYNTHETIC images, for tests and speed only: 5000 training, 1000 test images\n"


def test_a_data_set_that_is_not_there_is_one_sentence_and_exit_code_2(capsys, tmp_path) -> None:
    assert data.main(["MODEL=lenet5", "DATASET=image_folder", f"DATA_DIR={tmp_path}"]) == 2
    assert "an image folder is DATA_DIR with" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["EPOCHS", "EPOHCS=3"])
def test_a_wrong_override_is_exit_code_2(capsys, word: str) -> None:
    assert data.main([word]) == 2
    assert word in capsys.readouterr().err
