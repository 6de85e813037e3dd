"""Give access to the symbols of the Kconfig menus: values, what is allowed, and shorter names.

With kconfig.py, which reads and writes files of them, the only importer of kconfiglib; no import of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import kconfiglib

from .errors import ConfigError
from .run_config import FIELD_TYPES
from .schema import Spec, Value, float_spec

# Symbols that shape the matrix and its folder, not a single run.
MATRIX_SYMBOLS = ("SEEDS", "VARIANTS", "JOBS", "RETRIES", "PRESET", "RESULTS_DIR")


class Symbols:
    """Hold every symbol of the menus with its value: `name in symbols`, `symbols.value(name)`, `symbols.spec(name)`."""

    def __init__(self, kconfig: kconfiglib.Kconfig):
        self.kconfig = kconfig
        self._choices = _choices_read_by(kconfig)
        self._specs: dict[str, Spec] = {}
        self._abbreviations: dict[str, list[str]] = {}
        self._axes: dict[str, list[kconfiglib.Symbol]] = {}
        self._own_settings: dict[str, list[str]] = {}
        self._typed: set[str] = set()

    def __contains__(self, name: object) -> bool:
        symbol = self.kconfig.syms.get(name)
        return symbol is not None and bool(symbol.nodes)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of all symbols, in the order of the menus."""
        return (symbol.name for symbol in self.kconfig.unique_defined_syms)

    def spec(self, name: str) -> Spec:
        """Return what values the symbol may take, its prompt and help."""
        if name not in self._specs:
            self._specs[name] = _spec(self.kconfig.syms[name], self._choices.get(name))
        return self._specs[name]

    def text(self, name: str) -> str:
        """Return the symbol's value as it stands between the quotes of a .config; "" where it has none."""
        return self.kconfig.syms[name].str_value

    def value(self, name: str) -> Value:
        """Return the value as number, truth value or text; None where it is empty or its dependencies are not met."""
        if not kconfiglib.expr_value(self.kconfig.syms[name].direct_dep):
            return None
        try:
            return self.spec(name).parse(self.text(name))
        except ValueError as error:
            raise ConfigError([f"{name}={self.text(name)}: {error}, allowed {self.spec(name).allowed}"]) from None

    def has_prompt(self, name: str) -> bool:
        """Return whether the menus offer the symbol; the others follow from a choice."""
        return any(node.prompt for node in self.kconfig.syms[name].nodes)

    def is_saved(self, name: str) -> bool:
        """Return whether a .config holds the symbol: Kconfig leaves out what its dependencies hide."""
        return bool(self.kconfig.syms[name].config_string)

    def siblings(self, name: str) -> list[str]:
        """Return all members of the choice that `name` is a member of; [] where it is of none."""
        choice = self.kconfig.syms[name].choice
        return [symbol.name for symbol in choice.syms] if choice else []

    def axis(self, prefix: str) -> list[str]:
        """Return all members of an axis of the matrix in menu order: `["lenet5", "resnet18"]` for `axis("MODEL")`."""
        return [box.name[len(prefix) + 1 :].lower() for box in self._boxes(prefix)]

    def ticked(self, prefix: str) -> list[str]:
        """Return the members of an axis whose box is ticked."""
        return [box.name[len(prefix) + 1 :].lower() for box in self._boxes(prefix) if box.tri_value]

    def own_settings(self, model: str) -> list[str]:
        """Return the settings that only the model's Kconfig adds: `["width"]` for RESNET18_WIDTH."""
        if model not in self._own_settings:
            prefix = f"{model}_".upper()
            optimizers = ["", *(f"{name}_" for name in self.axis("OPTIMIZER"))]
            shared = {f"{optimizer}{field}".upper() for optimizer in optimizers for field in FIELD_TYPES}
            names = [name.removeprefix(prefix) for name in self._with_value() if name.startswith(prefix)]
            self._own_settings[model] = [name.lower() for name in names if name not in shared]
        return self._own_settings[model]

    def named(self, name: str) -> list[str]:
        """Return the symbols that `name` stands for: itself, or all that it abbreviates (EPOCHS: of every model)."""
        return [name] if name in self else self._abbreviated().get(name, [])

    def names(self) -> list[str]:
        """Return every name that named() knows."""
        return [*self, *self._abbreviated()]

    def assign(self, name: str, text: str, typed: bool = False) -> None:
        """Give the symbol a value that its spec can parse. Whether it takes shows in text() afterwards.

        What was `typed`, and not read from a .config, forget_defaults() keeps.
        """
        symbol = self.kconfig.syms[name]
        if typed:
            self._typed.add(name)
        if name in self._choices:
            self.kconfig.syms[f"{name}_{text}".upper()].set_value("y")
        else:
            symbol.set_value(text)

    def forget_defaults(self) -> None:
        """Let symbols that were assigned what they are by default follow from the others again.

        A .config assigns every symbol. Only where it differs from the default has somebody chosen.
        """
        for symbol in self.kconfig.unique_defined_syms:
            given, text = symbol.user_value, symbol.str_value
            if given is not None and symbol.choice is None and symbol.name not in self._typed:
                symbol.unset_value()
                if symbol.str_value != text:
                    symbol.set_value(given)

    def unmet(self, name: str) -> str:
        """Return the conditions of the symbol's prompt that do not hold, as Kconfig writes them; "" where all hold."""
        return " and ".join(dict.fromkeys(_unmet(self._choices.get(name) or self.kconfig.syms[name])))

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Give every symbol the value back that it has now when the block ends."""
        before = [(symbol, symbol.user_value) for symbol in self.kconfig.unique_defined_syms]
        chosen = [choice.user_selection for choice in self.kconfig.unique_choices]
        typed = set(self._typed)
        try:
            yield
        finally:
            self._typed = typed
            self.kconfig.unset_values()
            for symbol, value in before:
                if value is not None:
                    symbol.set_value(value)
            for member in chosen:
                if member is not None:
                    member.set_value("y")

    def _with_value(self) -> list[str]:
        """Return the symbols that hold a setting: of a choice not its members but the symbol that reads them."""
        return [name for name in self if name in self._choices or (self.has_prompt(name) and not self.siblings(name))]

    def _boxes(self, prefix: str) -> list[kconfiglib.Symbol]:
        if prefix not in self._axes:
            self._axes[prefix] = [
                symbol
                for symbol in self.kconfig.unique_defined_syms
                if symbol.name.startswith(prefix + "_") and symbol.type == kconfiglib.BOOL and symbol.choice is None
            ]
        return self._axes[prefix]

    def _abbreviated(self) -> dict[str, list[str]]:
        if not self._abbreviations:
            for name, (field, prefixes) in field_symbols(self).items():
                for shorter in _shorter(field.upper(), prefixes):
                    self._abbreviations.setdefault(shorter, []).append(name)
        return self._abbreviations


def field_symbols(symbols: Symbols) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return, for every symbol that gives a run's field its value, that field and the symbol's prefixes."""
    models, optimizers, methods = (symbols.axis(prefix) for prefix in ("MODEL", "OPTIMIZER", "PRUNING"))
    prefixes: list[tuple[str, ...]] = [(m, o) for m in models for o in optimizers]
    prefixes += [(name,) for name in (*models, *optimizers, *methods)]
    found = {}
    fields = [(field, prefix) for field in FIELD_TYPES for prefix in [*prefixes, ()]]
    fields += [(setting, (model,)) for model in models for setting in symbols.own_settings(model)]
    for field, prefix in fields:
        name = "_".join((*prefix, field)).upper()
        if name in symbols:
            found[name] = (field, tuple(p.upper() for p in prefix))
    return found


def _choices_read_by(kconfig: kconfiglib.Kconfig) -> dict[str, kconfiglib.Choice]:
    """Return the symbols without prompt that say which member of a choice is set (LENET5_DATASET), with the choice."""
    found = {}
    for symbol in kconfig.unique_defined_syms:
        if not any(node.prompt for node in symbol.nodes):
            for choice in kconfig.unique_choices:
                if all(member.name.startswith(symbol.name + "_") for member in choice.syms):
                    found[symbol.name] = choice
    return found


def _spec(symbol: kconfiglib.Symbol, choice: kconfiglib.Choice | None) -> Spec:
    node = (choice or symbol).nodes[0]
    prompt, text = (node.prompt[0] if node.prompt else ""), (node.help or "")
    if choice is not None:
        members = tuple(member.name[len(symbol.name) + 1 :].lower() for member in choice.syms)
        return Spec(symbol.name, "choice", prompt, text, choices=members)
    if symbol.type == kconfiglib.BOOL:
        return Spec(symbol.name, "bool", prompt, text)
    if symbol.type == kconfiglib.INT:
        low, high = next(((low, high) for low, high, _ in symbol.ranges), (None, None))
        bounds = (int(low.str_value), int(high.str_value)) if low and high else (None, None)
        return Spec(symbol.name, "int", prompt, text, *bounds)
    number = float_spec(symbol.name, prompt, text)
    return number or Spec(symbol.name, "string", prompt, text, optional=_defaults_to_nothing(symbol))


def _defaults_to_nothing(symbol: kconfiglib.Symbol) -> bool:
    return any(default.str_value == "" for default, _ in symbol.defaults)


def _unmet(item: kconfiglib.Symbol | kconfiglib.Choice) -> list[str]:
    found: list[str] = []
    for node in item.nodes:
        for term in kconfiglib.split_expr(node.prompt[1], kconfiglib.AND) if node.prompt else []:
            if not kconfiglib.expr_value(term):
                found += _unmet(term) if isinstance(term, kconfiglib.Choice) else [kconfiglib.expr_str(term)]
    return found


def _shorter(field: str, prefixes: tuple[str, ...]) -> list[str]:
    """Return the names that leave out one or both of a symbol's prefixes: of M_O_F these are F, M_F and O_F."""
    if not prefixes:
        return []
    return [field] if len(prefixes) == 1 else [field, *(f"{prefix}_{field}" for prefix in prefixes)]
