"""Resolve a run from Kconfig symbols: which symbol gives a field its value, and which values go together.

For model M, optimizer O and pruning method P the field `f` has the value of the first symbol that exists among
`M_O_F`, `M_F`, `O_F`, `P_F`, `F`. Where none exists the field does not apply to that run and is None.
No import of torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .errors import ConfigError
from .run_config import AXIS_FIELDS, FIELD_TYPES, PRUNING_FIELDS, REQUIRED_FIELDS, RunConfig
from .schema import Value, as_text, nearest
from .symbols import Symbols, field_symbols

#: What `legal` says, in words.
PAIRS = "state goes with adamwprune only, the other methods with every other optimizer"


def legal(optimizer: str, method: str) -> bool:
    """Return whether the two go together: state with AdamWPrune only, magnitude and movement with all the others."""
    return method == "none" or (method == "state") == (optimizer == "adamwprune")


def candidates(model: str, optimizer: str, method: str, field: str) -> list[str]:
    """Return the names of the symbols that may hold `field` for this run, the most specific first."""
    prefixes = (f"{model}_{optimizer}_", f"{model}_", f"{optimizer}_", f"{method}_", "")
    return [(prefix + field).upper() for prefix in prefixes]


@lru_cache(maxsize=8192)  # some 1,600 questions a tree, asked again for every run of a matrix
def symbol_of(symbols: Symbols, model: str, optimizer: str, method: str, field: str) -> str | None:
    """Return the symbol that gives `field` its value in this run, or None where the field does not apply."""
    if method == "none" and field in (*PRUNING_FIELDS, "target_sparsity"):
        return None
    return next((name for name in candidates(model, optimizer, method, field) if name in symbols), None)


def run_config(
    symbols: Symbols,
    model: str,
    optimizer: str,
    method: str,
    sparsity: float,
    seed: int,
    seed_in_name: bool = False,
) -> RunConfig:
    """Return the run of these axes with every other field from the symbols. ConfigError where a value is not allowed.

    `sparsity` is the share of prunable weights that end as zeros, 0 to 1; it counts for nothing without pruning.
    """
    axes: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "pruning_method": method,
        "target_sparsity": 0.0 if method == "none" else float(sparsity),
        "seed": seed,
        "seed_in_name": seed_in_name,
    }

    def value(field: str) -> Value:
        name = symbol_of(symbols, model, optimizer, method, field)
        return None if name is None else symbols.value(name)

    shared = axes | {field: value(field) for field in FIELD_TYPES if field not in AXIS_FIELDS}
    own = tuple((setting, value(setting)) for setting in symbols.own_settings(model))
    lacking = [field for field in REQUIRED_FIELDS if shared[field] is None]
    if lacking:
        raise ConfigError([f"{model} with {optimizer}: no symbol gives {field}" for field in lacking])
    config = RunConfig(**shared, model_settings=own)
    if found := problems(symbols, config):
        raise ConfigError(f"{config.run_id}: {problem}" for problem in found)
    return config


def problems(symbols: Symbols, config: RunConfig) -> list[str]:
    """Return a sentence for every value that is missing or not allowed, and for every contradiction of two."""
    errors = [
        f"{axis}={value}: unknown, allowed {', '.join(symbols.axis(prefix))}"
        for axis, prefix, value in (
            ("model", "MODEL", config.model),
            ("optimizer", "OPTIMIZER", config.optimizer),
            ("pruning", "PRUNING", config.pruning_method),
        )
        if value not in symbols.axis(prefix)
    ]
    if errors:  # then it is not known which fields apply
        return errors
    if not legal(config.optimizer, config.pruning_method):
        return [f"pruning_method={config.pruning_method}: {PAIRS}"]
    values = dict.fromkeys(symbols.own_settings(config.model)) | config.values()
    for field, value in values.items():
        if field not in ("model", "optimizer", "pruning_method"):
            errors += _problem(symbols, config, field, value)
    return errors + _contradictions(config)


def _problem(symbols: Symbols, config: RunConfig, field: str, value: Value) -> list[str]:
    """Return what is wrong with one field."""
    name = symbol_of(symbols, config.model, config.optimizer, config.pruning_method, field)
    if value is None:
        expected = name is not None and (field != "exponent" or config.criterion == "fisher")  # only fisher has one
        return [f"{field}: missing"] if expected else []
    if name is None:
        if field in AXIS_FIELDS:
            return []
        known = {known for known, _ in field_symbols(symbols).values()}
        if field not in known:
            return [f"{field}: no such field{nearest(field, known)}"]
        return [f"{field}={as_text(value)}: does not apply to {config.optimizer} with {config.pruning_method}"]
    spec = symbols.spec(name)
    try:
        spec.parse(as_text(value))
    except ValueError as error:
        return [f"{field}={as_text(value)}: {error}, allowed {spec.allowed} ({name})"]
    return []


def _contradictions(config: RunConfig) -> list[str]:
    found = []
    start, end, floor = config.pruning_start, config.pruning_end, config.min_density
    if start is not None and end is not None and start > end:
        found.append(f"pruning_start={start}: after pruning_end={end}, allowed 0 to pruning_end")
    if config.pruning_method == "none" and config.target_sparsity:
        found.append(f"target_sparsity={config.target_sparsity}: needs a pruning method")
    if floor is not None and config.target_sparsity + floor > 1 + 1e-9:
        found.append(
            f"target_sparsity={config.target_sparsity}: leaves less than min_density={floor} of every layer, "
            f"allowed 0 to {1 - floor:g}"
        )
    if config.mode == "lean" and config.criterion != "fisher":
        found.append(f"criterion={config.criterion}: not fisher, by which lean mode ranks, allowed fisher")
    if config.mode == "lean" and config.regrowth:
        found.append(f"regrowth={config.regrowth}: not 0, but in lean mode nothing pruned returns, allowed 0")
    return found
