"""Whatever keeps a command from its work becomes one sentence and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.config.command import FAILED, run_command
from lib.config.errors import CommandError, ConfigError
from lib.data.errors import DataError
from lib.runner.checks import Refused
from lib.storage.locks import Locked
from lib.storage.project import ROOT

FULL = OSError(28, os.strerror(28), "results/x")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (CommandError("no results yet"), 2, "no results yet\n"),
        (ConfigError(["EPOCHS=0: too small", "SEED=x: no number"]), 2, "EPOCHS=0: too small\nSEED=x: no number\n"),
        (DataError("MNIST is not there"), 2, "MNIST is not there\n"),
        (Refused("there is no GPU"), 2, "there is no GPU\n"),
        (Locked(Path("results/x/.lock"), 7), 2, "results/x is in use by process 7\n"),
        (FULL, 2, "results/x: No space left on device\n"),
        (OSError("no name, no number"), 2, "no name, no number\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_is_said_and_counted(error, code, sentence, capsys) -> None:
    def command() -> int:
        raise error

    assert run_command(command) == code
    assert capsys.readouterr() == ("", sentence)


def test_a_disk_that_fills_up_may_count_as_a_failure(capsys) -> None:
    def command() -> int:
        raise FULL

    assert run_command(command, FAILED) == 1
    assert capsys.readouterr().err == "results/x: No space left on device\n"


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


@pytest.mark.parametrize("code", [0, 1])
def test_the_code_of_a_command_that_ends_by_itself_is_kept(code) -> None:
    assert run_command(lambda: code) == code


def test_a_reader_who_has_left_is_no_failure() -> None:
    code = (
        "import sys; from lib.config.command import run_command as r; sys.exit(r(lambda: print('x\\n' * 99999) or 0))"
    )
    command = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=os.environ | {"CODE": code}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("x\n0\n", "")


def test_sentences_hold_no_escape_sequences(capsys) -> None:
    def command() -> int:
        raise CommandError("run \x1b[2Jold\nrun new")

    assert run_command(command) == 2
    assert capsys.readouterr().err == "run \\x1b[2Jold\nrun new\n"
