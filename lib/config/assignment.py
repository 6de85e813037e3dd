"""Assign values to symbols without trusting that they took effect.

Kconfig accepts a bad line in silence. Here each assignment is compared with what its symbol became, and every
difference gets its reason. No import of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from .fragment import Assignment
from .schema import Spec, nearest
from .symbols import Symbols

# What `make MODEL=lenet5,resnet18` ticks: one box of every name, the other boxes of the axis off.
AXES = {"MODEL": "MODEL", "OPTIMIZER": "OPTIMIZER", "PRUNING_METHOD": "PRUNING"}


def apply(symbols: Symbols, assignments: Iterable[Assignment]) -> list[tuple[Assignment, str]]:
    """Assign, compare with what each symbol became, and return the assignments that did not take, with the reason."""
    refused: list[tuple[Assignment, str]] = []
    applied: list[Assignment] = []
    chosen: dict[tuple[str, ...], Assignment] = {}
    for assignment in assignments:
        if reason := rejection_reason(symbols, assignment, chosen):
            refused.append((assignment, reason))
            continue
        applied.append(assignment)
        if symbols.has_prompt(assignment.name):
            symbols.assign(assignment.name, assignment.value)
    refused += [(a, reason) for a in applied if (reason := not_taken_reason(symbols, a.name, a.value))]
    return sorted(refused, key=lambda pair: pair[0].line)


def override(symbols: Symbols, overrides: Mapping[str, str], where: str = "command line") -> list[str]:
    """Apply `NAME=value` as typed at `where`, and return one sentence for each problem.

    A name that abbreviates several symbols (EPOCHS) has to take with one of them and to be a value for all that the
    chosen models have; a list of boxes has to take with each. What follows from other symbols by default follows from
    the overrides too, also where a .config has written it down; what earlier overrides have said stays.
    """
    if overrides:
        symbols.forget_defaults()
    errors = {name: _assign(symbols, name, text) for name, text in overrides.items()}
    for name, text in overrides.items():  # only now: one override may enable what another assigns
        errors[name] = errors[name] or ", or ".join(dict.fromkeys(_without_effect(symbols, name, text)))
    return [f"{where}: {name}={overrides[name]}: {error}" for name, error in errors.items() if error]


@contextlib.contextmanager
def changed(symbols: Symbols, values: Mapping[str, str]) -> Iterator[list[str]]:
    """Assign `values` as if typed for the length of a block, and yield what is wrong with them."""
    with symbols.restored():
        yield override(symbols, values)


def _assign(symbols: Symbols, name: str, text: str) -> str | None:
    """Assign what a name on a command line stands for. Return why it stands for nothing, or None."""
    if name in AXES:
        return _tick(symbols, AXES[name], text)
    targets = symbols.named(name)
    if not targets:
        return f"no such symbol{nearest(name, [*AXES, *symbols.names()])}"
    fitting = _parsable(symbols, targets, text)
    for target in fitting:
        symbols.assign(target, text, typed=True)
    return None if fitting else _unparsable(map(symbols.spec, targets), text)


def _without_effect(symbols: Symbols, name: str, text: str) -> list[str]:
    """Return the reasons why what was assigned did not take."""
    if name in AXES:
        boxes = [f"{AXES[name]}_{word.strip()}".upper() for word in text.split(",")]
        return [reason for box in boxes if (reason := not_taken_reason(symbols, box, "y"))]
    targets = symbols.named(name)
    fitting = _parsable(symbols, targets, text)
    reasons = [reason for target in fitting if (reason := not_taken_reason(symbols, target, text))]
    result = reasons if len(reasons) == len(fitting) else []
    if others := [t for t in targets if t not in fitting and not symbols.unmet(t)]:  # those of a chosen model
        result.append(f"{_unparsable(map(symbols.spec, others), text)} for {', '.join(others)}")
    return result


def unknown_names(symbols: Symbols, names: Iterable[str]) -> list[str]:
    """Return a sentence for every name that stands for no symbol."""
    known = [*AXES, *symbols.names()]
    return [f"command line: {n}: no such symbol{nearest(n, known)}" for n in names if n not in known]


def rejection_reason(symbols: Symbols, assignment: Assignment, chosen: dict[tuple[str, ...], Assignment]) -> str | None:
    """Return why an assignment cannot be applied, or None. `chosen` remembers the member of each choice."""
    if assignment.name not in symbols:
        return f"no such symbol{nearest(assignment.name, symbols)}"
    spec = symbols.spec(assignment.name)
    textual = spec.kind in ("string", "float", "choice")
    if textual and not assignment.quoted:
        return f'not in double quotes, write CONFIG_{assignment.name}="{assignment.value}"'
    if assignment.quoted and not textual:
        return f"in quotes, allowed {spec.allowed} without them"
    if reason := _unparsable([spec], assignment.value, allow_empty=True):
        return reason
    if assignment.value == "y" and (members := symbols.siblings(assignment.name)):
        first = chosen.setdefault(tuple(members), assignment)
        if first is not assignment:
            return f"{first.name} is chosen in line {first.line}; only one of them can be y"
    return None


def _unparsable(specs: Iterable[Spec], text: str, allow_empty: bool = False) -> str | None:
    """Return why `text` is no value for one of these symbols, or None."""
    for spec in specs:
        try:
            if not text.strip() and not allow_empty:
                raise ValueError("empty value")
            spec.parse(text)
        except ValueError as error:
            return f"{error}, allowed {spec.allowed}"
    return None


def _parsable(symbols: Symbols, names: Iterable[str], text: str) -> list[str]:
    """Return those of the symbols that `text` is a value for."""
    return [name for name in names if not _unparsable([symbols.spec(name)], text)]


def not_taken_reason(symbols: Symbols, name: str, text: str) -> str | None:
    """Return why the symbol did not become `text`, or None where it did."""
    spec = symbols.spec(name)
    became = symbols.text(name)
    if became == text or (spec.kind == "int" and became and int(became) == int(text)):
        return None
    if unmet := symbols.unmet(name):
        return f"needs {unmet}"
    if not symbols.has_prompt(name):
        members = [f"{name}_{choice}".upper() for choice in spec.choices]
        return f"follows from {', '.join(members) or 'other symbols'}; assign there"
    if members := symbols.siblings(name):
        return f"one of {', '.join(members)} must be y"
    return f"is {became or 'empty'} because of other symbols"


def _tick(symbols: Symbols, prefix: str, text: str) -> str | None:
    members = symbols.axis(prefix)
    wanted = [word.strip() for word in text.split(",")]
    if unknown := [word for word in wanted if word not in members]:
        reason = f"no such member{nearest(unknown[0], members)}" if unknown[0] else "empty value"
        return f"{reason}, allowed {', '.join(members)}"
    if twice := [word for word in members if wanted.count(word) > 1]:
        return f"{twice[0]} stands there twice"
    for member in members:
        symbols.assign(f"{prefix}_{member}".upper(), "y" if member in wanted else "n", typed=True)
    return None
