from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kconfiglib import MENU, Choice

from lib.config import kconfig
from lib.config.errors import ConfigError
from lib.config.fragment import parse
from lib.config.kconfig import load
from lib.config.symbols import Symbols
from lib.storage.project import ROOT

EVERY_BOX = "\n".join(
    f"CONFIG_{axis}_{member.upper()}=y"
    for axis in ("MODEL", "OPTIMIZER", "PRUNING")
    for member in kconfig.defaults().axis(axis)
)


@pytest.fixture
def fragment(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "fragment"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(ROOT, path)
    return [problem.removeprefix(f"{path}:") for problem in error.value.problems]


def offered(*kinds: str) -> list[str]:
    """Symbols that a menu offers outside choices and axes, of these kinds."""
    symbols = kconfig.defaults()
    axes = {f"{a}_{m}".upper() for a in ("MODEL", "OPTIMIZER", "PRUNING") for m in symbols.axis(a)}
    return [
        name
        for name in symbols
        if symbols.spec(name).kind in kinds
        and symbols.has_prompt(name)
        and not symbols.siblings(name)
        and name not in axes
    ]


def line(name: str, value: str) -> str:
    quoted = kconfig.defaults().spec(name).kind in ("float", "string")
    return f'CONFIG_{name}="{value}"' if quoted else f"CONFIG_{name}={value}"


def test_the_trees_own_defaults_are_all_allowed():
    symbols = kconfig.defaults()
    for name in symbols:
        symbols.value(name)


@pytest.mark.parametrize(
    ("kinds", "value", "reason"),
    [
        (("int", "float"), "-1", "too small"),
        (("int", "float"), "99999999999999999", "too large"),
        (("int", "float"), "", "empty value"),
        (("string",), "", "empty value"),
        (("int",), "three", "not a whole number"),
        (("int",), "3.5", "not a whole number"),
        (("int",), "nan", "not a whole number"),
        (("float",), "three", "not a finite number"),
        (("float",), "nan", "not a finite number"),
        (("float",), "inf", "not a finite number"),
        (("float",), "1e999", "not a finite number"),
        (("bool",), "yes", "not y or n"),
        (("bool",), "m", "not y or n"),
        (("bool",), "2", "not y or n"),
        (("bool",), "", "empty value"),
    ],
)
def test_every_symbol_refuses_what_it_cannot_mean_and_all_are_told_at_once(fragment, kinds, value, reason):
    symbols = kconfig.defaults()
    names = [n for n in offered(*kinds) if value or not symbols.spec(n).optional]
    told = problems(fragment(EVERY_BOX + "\n" + "\n".join(line(name, value) for name in names)))
    first = EVERY_BOX.count("\n") + 2
    assert len(told) == len(names) > 0
    for number, (name, problem) in enumerate(zip(names, told, strict=True), start=first):
        assert problem.startswith(f"{number}: {name}=")
        assert reason in problem
        assert problem.endswith(f"allowed {symbols.spec(name).allowed}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yes", "not y or n, allowed y or n"),
        ("m", "not y or n, allowed y or n"),
        ("1", "not y or n, allowed y or n"),
        ("", "empty value, allowed y or n"),
        ('"y"', "in quotes, allowed y or n without them"),
    ],
)
def test_every_box_of_the_matrix_and_member_of_a_choice_refuses_what_is_neither_y_nor_n(fragment, value, reason):
    symbols = kconfig.defaults()
    names = [
        name
        for name in symbols
        if symbols.siblings(name) or name.startswith(("MODEL_", "OPTIMIZER_", "PRUNING_", "SPARSITY_"))
        if symbols.spec(name).kind == "bool"
    ]
    others = offered("bool", "int", "float", "string")
    assert {*names, *others} == {name for name in symbols if symbols.has_prompt(name)}  # none is left out
    told = problems(fragment("".join(f"CONFIG_{name}={value}\n" for name in names)))
    assert told == [f"{number}: {name}={value}: {reason}" for number, name in enumerate(names, start=1)]


def test_exact_bounds_are_allowed_and_excluded_ones_are_not(fragment):
    assert load(ROOT, fragment("CONFIG_LENET5_EPOCHS=10000")).value("LENET5_EPOCHS") == 10000
    assert problems(fragment('CONFIG_ADAMWPRUNE_BETA1="1"')) == [
        '1: ADAMWPRUNE_BETA1="1": too large, allowed 0 to below 1'
    ]
    assert "too small" in problems(fragment('CONFIG_LENET5_ADAMWPRUNE_LEARNING_RATE="0"'))[0]


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbfCONFIG_LENET5_EPOCHS=3\nCONFIG_DATA_DIR="a # b"\n',
        b'CONFIG_LENET5_EPOCHS=3\r\nCONFIG_DATA_DIR="a # b"\r\n',
        b'CONFIG_LENET5_EPOCHS=3 # few\nCONFIG_DATA_DIR="a # b"   # and "quoted"',
        b'  CONFIG_LENET5_EPOCHS = 3\t\n\n# a comment\nCONFIG_DATA_DIR="a # b"',
        b'CONFIG_LENET5_EPOCHS=3\rCONFIG_DATA_DIR="a # b"',
    ],
    ids=["bom", "crlf", "comment", "spaces", "cr"],
)
def test_marks_of_other_editors_and_comments_do_not_change_the_meaning(fragment, text):
    symbols = load(ROOT, fragment(text))
    assert (symbols.value("LENET5_EPOCHS"), symbols.value("DATA_DIR")) == (3, "a # b")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<<<<<<< HEAD\n", "1: <<<<<<< HEAD: a merge-conflict marker; resolve the conflict"),
        ("# x\n=======\n", "2: =======: a merge-conflict marker; resolve the conflict"),
        (
            "CONFIG_LENET5_EPOCHS=3\nCONFIG_LENET5_EPOCHS=3\n",
            "2: LENET5_EPOCHS=3: assigned before in line 1",
        ),
        ("CONFIG_DOWNLOADS=y", "1: DOWNLOADS=y: no such symbol (did you mean DOWNLOAD?)"),
        ("LENET5_EPOCHS=3", "1: LENET5_EPOCHS=3: not an assignment; expected CONFIG_NAME=value"),
        ('CONFIG_SGD_MOMENTUM="0.5"', '1: SGD_MOMENTUM="0.5": needs OPTIMIZER_SGD'),
        (
            "# CONFIG_OPTIMIZER_ADAMWPRUNE is not set\nCONFIG_OPTIMIZER_SGD=y\nCONFIG_PRUNING_STATE=y",
            "3: PRUNING_STATE=y: needs OPTIMIZER_ADAMWPRUNE",
        ),
        (
            "CONFIG_DEVICE_CPU=y\nCONFIG_DEVICE_CUDA=y",
            "2: DEVICE_CUDA=y: DEVICE_CPU is chosen in line 1; only one of them can be y",
        ),
        ("# CONFIG_DEVICE_AUTO is not set", "1: DEVICE_AUTO=n: one of DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA must be y"),
        (
            'CONFIG_DEVICE="cpu"',
            '1: DEVICE="cpu": follows from DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA; assign there',
        ),
        (
            "CONFIG_DATA_DIR=data",
            '1: DATA_DIR=data: not in double quotes, write CONFIG_DATA_DIR="data"',
        ),
        ('CONFIG_SEEDS="3"', '1: SEEDS="3": in quotes, allowed 1 to 1000 without them'),
        ("CONFIG_SEEDS=3 4", '1: CONFIG_SEEDS=3 4: the value is neither one word nor text in double quotes ("...")'),
        ("# CONFIG_SEEDS is not set", "1: SEEDS=n: not a whole number, allowed 1 to 1000"),
        (b"CONFIG_SEEDS=3\n\xff\xfe", "2: not UTF-8 text"),
        (b'CONFIG_DATA_DIR="a\x00b"', '1: CONFIG_DATA_DIR="a?b": a control character in the value'),
    ],
)
def test_what_kconfig_passes_over_in_silence_is_named_with_its_line(fragment, text, problem):
    assert problems(fragment(text)) == [problem]


def test_all_problems_come_together_and_in_the_order_of_their_lines(fragment):
    told = problems(fragment("CONFIG_SEEDS=0\n>>>>>>> x\nCONFIG_NOPE=y\nCONFIG_SEED=1\nCONFIG_SEED=2\nCONFIG_JOBS=x"))
    assert [int(problem.split(":")[0]) for problem in told] == [1, 2, 3, 5, 6]


def test_lines_without_effect_are_harmless_where_they_say_what_holds_anyway(fragment):
    load(ROOT, fragment('CONFIG_SGD_MOMENTUM="0.9"\nCONFIG_DEVICE="auto"\n# CONFIG_DEVICE_CPU is not set'))


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            load(ROOT, path)


def test_stray_variables_of_the_environment_have_no_effect(fragment, monkeypatch):
    for name in ("srctree", "CONFIG_", "KCONFIG_CONFIG", "EPOCHS", "LENET5_EPOCHS", "KCONFIG_STRICT"):
        monkeypatch.setenv(name, "/nonsense")
    before = dict(os.environ)
    assert load(ROOT, fragment("CONFIG_LENET5_EPOCHS=3")).value("LENET5_EPOCHS") == 3
    assert dict(os.environ) == before


def test_loading_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kconfig.defaults().value("LENET5_EPOCHS") == 10


def test_problems_of_file_and_command_line_come_together(fragment):
    with pytest.raises(ConfigError) as error:
        load(ROOT, fragment("CONFIG_SEEDS=0"), {"EPOCHS": "x", "JOBS": "-1"})
    assert len(error.value.problems) == 3


def test_an_older_config_keeps_what_still_holds_and_tells_the_rest(fragment):
    path = fragment('CONFIG_LENET5_EPOCHS=7\nCONFIG_GONE=y\nCONFIG_SEEDS=0\nCONFIG_SGD_MOMENTUM="0.5"\n')
    symbols, dropped, new = kconfig.load_old(ROOT, path)
    assert symbols.value("LENET5_EPOCHS") == 7
    assert symbols.value("SEEDS") == 1
    assert [problem.removeprefix(f"{path}:")[0] for problem in dropped] == ["2", "3", "4"]
    assert "LENET5_BATCH_SIZE" in new
    assert "LENET5_EPOCHS" not in new


def test_an_older_config_with_a_merge_conflict_is_not_guessed_at(fragment):
    with pytest.raises(ConfigError, match="merge-conflict"):
        kconfig.load_old(ROOT, fragment("<<<<<<< HEAD\nCONFIG_SEEDS=3\n"))


def test_saving_keeps_a_link_a_link_and_leaves_nothing_beside(tmp_path):
    target, link = tmp_path / "real", tmp_path / "here" / ".config"
    link.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    kconfig.save(load(overrides={"EPOCHS": "3"}), link)
    assert link.is_symlink()
    assert load(ROOT, target).value("LENET5_EPOCHS") == 3
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".config", "here", "real"]


def test_saving_what_is_there_already_does_not_touch_the_file(tmp_path):
    path = tmp_path / ".config"
    kconfig.save(kconfig.defaults(), path)
    before = path.stat().st_mtime_ns
    assert kconfig.save(kconfig.defaults(), path).startswith("No change")
    assert path.stat().st_mtime_ns == before


def values(symbols: Symbols) -> dict[str, object]:
    return {name: symbols.value(name) for name in symbols}


@st.composite
def some_overrides(draw: st.DrawFn) -> dict[str, str]:
    """Every box ticked, and a few symbols at legal values."""
    symbols = kconfig.defaults()
    chosen = {"MODEL": "lenet5,resnet18", "OPTIMIZER": ",".join(symbols.axis("OPTIMIZER"))}
    chosen["PRUNING_METHOD"] = ",".join(symbols.axis("PRUNING"))
    names = [name for name in offered("int", "float", "bool", "string") if name != "MONITOR"]  # hides its interval
    for name in draw(st.lists(st.sampled_from(names), max_size=8)):
        spec = symbols.spec(name)
        if spec.kind == "bool":
            chosen[name] = draw(st.sampled_from("yn"))
        elif spec.kind == "string":
            chosen[name] = draw(st.text(st.sampled_from("ab #\"\\'=$ü/"), min_size=1).filter(str.strip))
        elif spec.kind == "int":
            chosen[name] = str(draw(st.integers(int(spec.low or 0), int(spec.high or 0))))
        elif name != "ADAMWPRUNE_EXPONENT":
            chosen[name] = repr(draw(st.floats(spec.low, spec.high, exclude_min=spec.above, exclude_max=spec.below)))
    return chosen


@given(overrides=some_overrides())
def test_what_is_saved_loads_as_it_was_in_full_and_as_a_preset(overrides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round")
    symbols = load(overrides=overrides)
    kconfig.save(symbols, folder / "full")
    (folder / "minimal").write_text(kconfig.minimal(symbols, "why?"), encoding="utf-8")
    assert values(load(ROOT, folder / "full")) == values(symbols)
    assert values(load(ROOT, folder / "minimal")) == values(symbols)


NOISE = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"CONFIG_SEEDS=", b'CONFIG_DATA_DIR="', b"\n", b'"', b"# CONFIG_MONITOR is not set", b"3"]),
    ),
    max_size=20,
).map(b"".join)


@given(noise=NOISE)
def test_no_content_of_a_file_ends_in_anything_but_symbols_or_sentences(noise, tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "f"
    path.write_bytes(noise)
    try:
        values(load(ROOT, path))
    except ConfigError as error:
        assert all(problem.startswith(f"{path}:") for problem in error.problems)
    assignments, broken = parse(noise)
    assert all(number >= 1 for number, _ in broken)
    assert len({a.name for a in assignments}) == len(assignments)


def test_help_and_prompts_fit_a_terminal_of_80_columns():
    """menuconfig indents help by two columns and cuts what is wider; a prompt stands behind its value."""
    for node in kconfig.defaults().kconfig.node_iter():
        text = getattr(node, "help", None) or ""
        assert all(len(line) <= 76 for line in text.splitlines()), text
        assert not node.prompt or len(node.prompt[0]) <= 62, node.prompt[0]
        if isinstance(node.item, Choice):  # drawn as `    <prompt> (<chosen member>)  --->`
            assert all(len(f"    {node.prompt[0]} ({m.nodes[0].prompt[0]})  --->") <= 80 for m in node.item.syms)


def menu_of(name: str) -> str:
    """Prompt of the menu that holds a symbol, or that holds the one it depends on."""
    node = kconfig.defaults().kconfig.syms[name].nodes[0].parent
    while node.item != MENU:
        node = node.parent
    return node.prompt[0]


def test_what_is_recorded_beside_training_has_a_menu_of_its_own():
    assert {menu_of(name) for name in ("MONITOR", "MONITOR_INTERVAL", "INFERENCE_TEST", "TENSORBOARD")} == {
        "Records of each run: memory, inference, TensorBoard"
    }


@pytest.mark.parametrize("model", ["LENET5", "RESNET18"])
def test_epochs_batch_size_and_data_set_are_found_in_the_menu_that_names_them(model):
    for setting in ("EPOCHS", "BATCH_SIZE", "DATASET"):
        assert menu_of(f"{model}_{setting}").endswith(": epochs, batch size, data set, learning rate")
