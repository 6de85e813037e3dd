from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def kconfig(own_tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(own_tree / "scripts" / "kconfig.py"), *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd="/",
        env=os.environ | environment,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that refused to do anything."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_a_dry_run_prints_the_runs_and_their_number_and_nothing_else(own_tree):
    done = kconfig(own_tree, "dry-run", "--config", str(own_tree / "defconfigs" / "lenet5-adamwprune"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "lenet5_adamwprune_state_70\n1 run\n", "")
    done = kconfig(own_tree, "dry-run", "TARGET_SPARSITY=0.5", "OPTIMIZER=sgd,adamwprune")
    assert done.stdout.splitlines() == [
        "lenet5_sgd_none",
        "lenet5_sgd_magnitude_50",
        "lenet5_sgd_movement_50",
        "lenet5_adamwprune_none",
        "lenet5_adamwprune_state_50",
        "5 runs",
    ]


def test_a_preset_becomes_the_config_with_its_overrides(own_tree):
    assert kconfig(own_tree, "defconfig", "lenet5-compare", "EPOCHS=3").returncode == 0
    assert "CONFIG_LENET5_EPOCHS=3\n" in (own_tree / ".config").read_text()
    assert kconfig(own_tree, "dry-run").stdout.endswith("39 runs\n")


def test_a_preset_that_does_not_exist_is_refused_and_the_config_stays(own_tree):
    (own_tree / ".config").write_text("CONFIG_SEEDS=2\n")
    assert refused(kconfig(own_tree, "defconfig", "nope")) == (
        "defconfig-nope: no such preset; `make list-defconfigs` lists them"
    )
    assert "did you mean lenet5-compare" in refused(kconfig(own_tree, "defconfig", "lenet5-compar"))
    assert (own_tree / ".config").read_text() == "CONFIG_SEEDS=2\n"


def test_a_preset_with_a_misspelt_symbol_is_refused_with_file_and_line(own_tree):
    (own_tree / "defconfigs" / "mine").write_text("# what?\nCONFIG_MODEL_LENET=y\n")
    assert refused(kconfig(own_tree, "defconfig", "mine")) == (
        "defconfigs/mine:2: MODEL_LENET=y: no such symbol (did you mean MODEL_LENET5, MODEL_RESNET18?)"
    )
    assert not (own_tree / ".config").exists()


def test_presets_are_listed_with_number_of_runs_and_question(own_tree):
    done = kconfig(own_tree, "list-defconfigs")
    lines = done.stdout.splitlines()
    assert len(lines) == len(list((own_tree / "defconfigs").iterdir()))
    (line,) = [line for line in lines if line.startswith("lenet5-compare ")]
    assert " 39 runs " in line
    assert line.endswith("?")


def test_one_broken_preset_does_not_hide_the_others(own_tree):
    (own_tree / "defconfigs" / "mine").write_text("CONFIG_NOPE=y\n")
    done = kconfig(own_tree, "list-defconfigs")
    assert done.returncode == 2
    assert "defconfigs/mine:1" in done.stderr
    assert len(done.stdout.splitlines()) == len(list((own_tree / "defconfigs").iterdir())) - 1


def test_an_older_config_is_brought_up_to_date_and_what_was_dropped_is_listed(own_tree):
    (own_tree / ".config").write_text("CONFIG_LENET5_EPOCHS=7\nCONFIG_GONE=y\n")
    assert "no such symbol" in refused(kconfig(own_tree, "dry-run"))
    done = kconfig(own_tree, "olddefconfig")
    assert done.returncode == 0
    assert "dropped .config:2: GONE=y: no such symbol" in done.stdout
    assert "new LENET5_BATCH_SIZE=256" in done.stdout
    assert "CONFIG_LENET5_EPOCHS=7\n" in (own_tree / ".config").read_text()
    assert "GONE" not in (own_tree / ".config").read_text()
    assert kconfig(own_tree, "dry-run").returncode == 0


@pytest.mark.parametrize("preset", ["quickstart", "lenet5-adamwprune", "resnet18-adamwprune", "test-matrix-full"])
def test_a_config_just_written_is_up_to_date(own_tree, preset):
    assert kconfig(own_tree, "defconfig", preset).returncode == 0
    before = (own_tree / ".config").read_text()
    assert kconfig(own_tree, "olddefconfig").stdout == f"No change to {own_tree / '.config'}\n"
    assert (own_tree / ".config").read_text() == before and not (own_tree / ".config.old").exists()


@pytest.mark.parametrize("command", [("defconfig", "lenet5"), ("olddefconfig",)])
def test_a_config_that_is_overwritten_is_kept_and_the_user_is_told(own_tree, command):
    edited = "CONFIG_SEEDS=2\nCONFIG_LENET5_EPOCHS=7\n"
    (own_tree / ".config").write_text(edited)
    done = kconfig(own_tree, *command)
    assert done.returncode == 0 and "the former one is kept as " in done.stdout and ".config.old" in done.stdout
    assert (own_tree / ".config.old").read_text() == edited
    again = kconfig(own_tree, *command)  # nothing changes, so nothing is lost
    assert ".config.old" not in again.stdout and (own_tree / ".config.old").read_text() == edited


def test_an_older_config_is_not_invented(own_tree):
    assert ".config: there is none yet" in refused(kconfig(own_tree, "olddefconfig"))


def test_a_configuration_can_be_kept_as_a_preset(own_tree):
    kconfig(own_tree, "defconfig", "lenet5-compare", "EPOCHS=3", "PRESET=kept")
    assert kconfig(own_tree, "savedefconfig").returncode == 0
    (own_tree / "defconfig").rename(own_tree / "defconfigs" / "kept")
    lines = (own_tree / "defconfigs" / "kept").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) < 20
    before = (own_tree / ".config").read_text()
    assert kconfig(own_tree, "defconfig", "kept").returncode == 0
    assert (own_tree / ".config").read_text() == before


def test_a_preset_made_from_another_does_not_keep_its_name(own_tree):
    kconfig(own_tree, "defconfig", "lenet5-compare", "EPOCHS=3")
    done = kconfig(own_tree, "savedefconfig")
    assert "PRESET=lenet5-compare is left out: this is no longer that preset" in done.stdout
    assert "PRESET" not in (own_tree / "defconfig").read_text()
    (own_tree / "defconfig").rename(own_tree / "defconfigs" / "mine")
    kconfig(own_tree, "defconfig", "mine")
    assert kconfig(own_tree, "value", "PRESET").stdout == "mine\n"  # what its results folders are called


def test_an_unchanged_preset_and_a_given_name_are_kept(own_tree):
    kconfig(own_tree, "defconfig", "lenet5-compare")
    assert kconfig(own_tree, "savedefconfig").stdout.startswith("defconfig written (39 runs)")
    assert 'CONFIG_PRESET="lenet5-compare"\n' in (own_tree / "defconfig").read_text()
    kconfig(own_tree, "savedefconfig", "EPOCHS=3", "PRESET=short")
    assert 'CONFIG_PRESET="short"\n' in (own_tree / "defconfig").read_text()


def test_stray_variables_of_the_environment_have_no_effect(own_tree):
    kconfig(own_tree, "defconfig", "lenet5")
    plain = kconfig(own_tree, "dry-run").stdout
    stray = {"srctree": "/nope", "CONFIG_": "X_", "KCONFIG_CONFIG": "/nope", "EPOCHS": "three", "SEEDS": "9"}
    assert kconfig(own_tree, "dry-run", **stray).stdout == plain
    assert kconfig(own_tree, "savedefconfig", **stray).returncode == 0
    assert "CONFIG_OPTIMIZER_ADAMW=y" in (own_tree / "defconfig").read_text()


def test_menus_without_a_terminal_are_refused(own_tree):
    assert refused(kconfig(own_tree, "menuconfig")) == (
        "menuconfig needs a terminal (stdin or stdout is none); `make defconfig-<name>` writes .config without one"
    )
    assert not (own_tree / ".config").exists()


class Terminal:
    """The menus in a terminal of their own, typed into."""

    def __init__(self, own_tree: Path, *words: str, term: str = "xterm"):
        self.master, slave = pty.openpty()
        command = [sys.executable, str(own_tree / "scripts" / "kconfig.py"), "menuconfig", *words]
        environment = os.environ | {"TERM": term, "LINES": "40", "COLUMNS": "120"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.shown = ""

    def until(self, text: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert self._read(end - time.monotonic()), self.shown

    def type(self, keys: str) -> None:
        self.shown = ""
        os.write(self.master, keys.encode())

    def end(self) -> int:
        end = time.monotonic() + 20
        while self._read(end - time.monotonic()):
            pass
        os.close(self.master)
        return self.process.wait(20)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(own_tree):
    opened = []

    def start(*words: str, term: str = "xterm") -> Terminal:
        opened.append(Terminal(own_tree, *words, term=term))
        return opened[-1]

    yield start
    for each in opened:
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("term", ["dumb", "", "no-such-terminal"])
def test_menus_in_a_terminal_that_cannot_draw_are_refused(terminal, term):
    terminal = terminal(term=term)
    assert terminal.end() == 2
    assert "menuconfig needs a terminal" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_menus_start_from_what_make_would_run_and_save_what_is_chosen(own_tree, terminal):
    expected = kconfig(own_tree, "dry-run", "SEEDS=3").stdout  # of the quickstart, as there is no .config
    terminal = terminal("SEEDS=3")
    terminal.until("Models")
    terminal.type("s")
    terminal.until("Filename to save")
    terminal.type("\n")
    terminal.until("Success")
    terminal.type("\n")
    terminal.type("q")
    assert terminal.end() == 0
    assert "CONFIG_SEEDS=3\n" in (own_tree / ".config").read_text()
    assert kconfig(own_tree, "dry-run").stdout == expected


def test_menus_end_when_their_terminal_is_closed(own_tree, terminal):
    terminal = terminal()
    terminal.until("Models")
    os.close(terminal.master)
    assert terminal.process.wait(20) == -signal.SIGHUP
    assert not (own_tree / ".config").exists()


@pytest.mark.parametrize("command", ["dry-run", "defconfig", "menuconfig", "value", "nonsense"])
def test_wrong_usage_is_refused_without_a_traceback(own_tree, command):
    for words in ([command, "--nope"], [command, "x", "y"], [command, "=", "x=", "=y"]):
        done = kconfig(own_tree, *words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
