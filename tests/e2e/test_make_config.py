"""Configuring by make as a user types it. Nothing here trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = (
    *("all", "continue", "rerun", "data", "menuconfig", "defconfig-<name>", "list-defconfigs", "dry-run"),
    *("olddefconfig", "savedefconfig", "summary", "compare", "update-graphs", "report", "memory", "bench"),
    *("check", "soak", "clean", "mrproper", "help"),
)


def make(own_tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *words],
        cwd=own_tree,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a make that refused; make itself adds a line that names the target and the exit code."""
    assert done.returncode == 2
    assert done.stdout == ""
    *told, own = done.stderr.splitlines()
    assert own.endswith("Error 2")
    (sentence,) = told
    return sentence


def test_without_a_config_the_quickstart_is_meant_and_no_config_is_written(own_tree):
    done = make(own_tree, "dry-run")
    assert done.returncode == 0
    assert done.stdout.endswith("8 runs\n")
    assert not (own_tree / ".config").exists()


def test_a_preset_and_then_its_runs(own_tree):
    assert make(own_tree, "defconfig-resnet18-state-pruning-compare").returncode == 0
    done = make(own_tree, "dry-run", "-j8")
    assert done.stdout.splitlines()[-2:] == ["resnet18_adamwprune_state_70", "6 runs"]
    assert make(own_tree, "dry-run", "SEEDS=3").stdout.endswith("18 runs\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["EPOCHS=three"], "command line: EPOCHS=three: not a whole number, allowed 1 to 10000"),
        (["EPOCHS:=three"], "command line: EPOCHS=three: not a whole number, allowed 1 to 10000"),
        (["EPOCHS="], "command line: EPOCHS=: empty value, allowed 1 to 10000"),
        (["EPOCH=3"], "command line: EPOCH=3: no such symbol (did you mean EPOCHS?)"),
        (["TARGET_SPARSITY=1.5"], "command line: TARGET_SPARSITY=1.5: too large, allowed above 0 to 0.999"),
        (
            ["LEARNING_RATE=nan"],
            "command line: LEARNING_RATE=nan: not a finite number, allowed above 0 to 10000000000",
        ),
        (["defconfig-nope"], "defconfig-nope: no such preset; `make list-defconfigs` lists them"),
        (
            ["summary", "EPOCHS=3"],
            "command line: EPOCHS: no effect on results that are there; only RESULTS_DIR has one",
        ),
        (["summary", "EPOCH=3"], "command line: EPOCH: no such symbol (did you mean EPOCHS?)"),
        (
            ["menuconfig"],
            "menuconfig needs a terminal (stdin or stdout is none); `make defconfig-<name>` writes .config without one",
        ),
    ],
)
def test_wrong_input_gets_one_sentence_and_nothing_starts(own_tree, words, sentence):
    before = sorted(own_tree.iterdir())
    assert refused(make(own_tree, *words)) == sentence
    assert sorted(path for path in own_tree.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dry-run", "DIR=x"], "DIR is read by summary update-graphs report only"),
        (["summary", "GPU_MIB=1"], "GPU_MIB is read by memory only"),
        (["A=x"], "A is read by compare only"),
    ],
)
def test_a_variable_that_the_target_does_not_read_is_refused(own_tree, words, sentence):
    done = make(own_tree, *words)
    assert done.returncode == 2 and done.stdout == "" and f"*** {sentence}." in done.stderr


def test_the_environment_is_not_the_command_line(own_tree):
    stray = {"EPOCHS": "three", "SEEDS": "5", "srctree": "/nope", "CONFIG_": "X", "KCONFIG_CONFIG": "/nope", "V": "1"}
    done = make(own_tree, "dry-run", **stray)
    assert done.returncode == 0
    assert done.stdout == make(own_tree, "dry-run").stdout
    assert len(done.stdout.splitlines()) == 9


@pytest.mark.parametrize(
    "value",
    ["with spaces", "it's", 'say "hi"', "$HOME $(HOME) $$", "a;b|c&d", "ümläut", "#1", "*", "back\\slash", "a=b"],
)
def test_a_value_arrives_as_it_was_typed(own_tree, value):
    assert make(own_tree, "defconfig-lenet5", f"DATA_DIR={value}").returncode == 0
    command = [sys.executable, str(own_tree / "scripts" / "kconfig.py"), "value", "DATA_DIR"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == value + "\n"


def test_presets_are_listed(own_tree):
    done = make(own_tree, "list-defconfigs")
    assert done.returncode == 0
    assert "lenet5-compare " in done.stdout


def test_help_names_every_target_that_a_user_may_want(own_tree):
    told = make(own_tree, "help").stdout
    for target in TARGETS:
        assert f"  {target} " in told, target


def test_an_environment_that_lacks_packages_is_left_alone_and_told(own_tree):
    bare = own_tree / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    done = subprocess.run(
        ["make", "dry-run"], cwd=own_tree, capture_output=True, text=True, env=os.environ | {"VIRTUAL_ENV": str(bare)}
    )
    sentence = refused(done)
    assert "lacks torch, " in sentence
    assert not (own_tree / ".venv").exists()


def test_a_program_that_is_no_python_is_refused_with_a_sentence(own_tree):
    done = make(own_tree, "dry-run", "PYTHON=/bin/false")
    assert refused(done) == "/bin/false: this is no Python 3.11 or newer that works"
    done = make(own_tree, "dry-run", "PYTHON=/no such/python")
    assert done.returncode == 2 and "/no such/python: this is no Python 3.11 or newer that works" in done.stderr


def test_cleaning_leaves_configuration_and_results(own_tree):
    make(own_tree, "defconfig-lenet5")
    (own_tree / "results").mkdir()
    (own_tree / "lib" / "__pycache__").mkdir(exist_ok=True)
    assert make(own_tree, "clean").returncode == 0
    assert (own_tree / ".config").exists()
    assert not (own_tree / "lib" / "__pycache__").exists()
    assert make(own_tree, "mrproper").returncode == 0
    assert not (own_tree / ".config").exists()
    assert (own_tree / "results").is_dir()
