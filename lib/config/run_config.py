"""One training run as a flat, frozen record; how its fields follow from the Kconfig symbols; YAML and back.

For model M, optimizer O and pruning method P the field `f` has the value of the first symbol that exists among
`M_O_F`, `M_F`, `O_F`, `P_F`, `F`. Where none exists the field does not apply to that run and is None.
No import of torch.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import yaml

from ..storage.safe_yaml import parse_yaml
from .schema import as_text, nearest

if TYPE_CHECKING:
    from .symbols import Symbols


class ConfigError(Exception):
    """A configuration that cannot be used: every problem found, one sentence each."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what one run does. Meaning, unit and range of a field: the help of its symbol."""

    model: str
    optimizer: str
    pruning_method: str
    target_sparsity: float
    seed: int
    seed_in_name: bool = False
    variant: str | None = None

    epochs: int
    batch_size: int
    eval_batch_size: int
    learning_rate: float
    weight_decay: float
    lr_schedule: str
    warmup_fraction: float
    label_smoothing: float
    gradient_clip: float

    dataset: str
    data_dir: str
    download: bool
    train_images: int
    validation_images: int
    crop_padding: int
    flip: bool

    device: str
    precision: str
    channels_last: bool
    compile: str
    threads: int
    deterministic: bool
    checkpoint_every: int
    monitor: bool
    monitor_interval: float
    inference_test: bool
    tensorboard: bool

    # Only some models have these.
    width: int | None = None

    # Only some optimizers have these.
    momentum: float | None = None
    nesterov: bool | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    amsgrad: bool | None = None
    clip_norm: float | None = None
    spike_threshold: float | None = None
    reset_interval: int | None = None
    reset_warmup: int | None = None

    # Only runs that prune have these.
    criterion: str | None = None
    exponent: float | None = None
    mode: str | None = None
    regrowth: float | None = None
    ranking: str | None = None
    pruning_start: float | None = None
    pruning_end: float | None = None
    pruning_interval: int | None = None
    min_density: float | None = None
    prune_first: bool | None = None
    prune_last: bool | None = None

    @property
    def run_id(self) -> str:
        """Name of the run's folder: `<model>_<optimizer>_<method>[_<percent>][_<variant>][_seed<k>]`."""
        parts = [self.model, self.optimizer, self.pruning_method]
        if self.pruning_method != "none":
            parts.append(f"{round(100 * self.target_sparsity, 6):g}")
        if self.variant:
            parts.append(self.variant)
        if self.seed_in_name:
            parts.append(f"seed{self.seed}")
        return "_".join(parts)

    def to_yaml(self) -> str:
        """The fields that apply, in order, one a line."""
        values = {name: getattr(self, name) for name in FIELD_TYPES}
        return yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> RunConfig:
        """The run that to_yaml() wrote. Names and types are checked here, ranges by `problems`."""
        try:
            values = parse_yaml(text)
        except ValueError as error:
            raise ConfigError([f"not YAML: {error}"]) from None
        if not isinstance(values, dict):
            raise ConfigError(["not a run's configuration: one `field: value` a line is expected"])
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for name, value in values.items():
            if name not in FIELD_TYPES:
                wrong.append(f"{name}: no such field{nearest(str(name), FIELD_TYPES)}")
                continue
            try:
                found[name] = _typed(value, FIELD_TYPES[name])
            except ValueError as error:
                wrong.append(f"{name}={value}: {error}")
        wrong += [f"{name}: missing" for name in REQUIRED_FIELDS if values.get(name) is None]
        if wrong:
            raise ConfigError(wrong)
        return cls(**found)


def _plain_type(hint: Any) -> type:
    """`float` of `float | None`."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint


FIELD_TYPES: dict[str, type] = {name: _plain_type(h) for name, h in typing.get_type_hints(RunConfig).items()}
REQUIRED_FIELDS = tuple(f.name for f in fields(RunConfig) if f.default is not None and f.name != "seed_in_name")
AXIS_FIELDS = ("model", "optimizer", "pruning_method", "target_sparsity", "seed", "seed_in_name", "variant")
PRUNING_FIELDS = frozenset(
    [
        "criterion",
        "exponent",
        "mode",
        "regrowth",
        "ranking",
        "pruning_start",
        "pruning_end",
        "pruning_interval",
        "min_density",
        "prune_first",
        "prune_last",
    ]
)


#: What `legal` says, in words.
PAIRS = "state goes with adamwprune only, the other methods with every other optimizer"


def legal(optimizer: str, method: str) -> bool:
    """State goes with AdamWPrune only, magnitude and movement with all the others, none with every optimizer."""
    return method == "none" or (method == "state") == (optimizer == "adamwprune")


def candidates(model: str, optimizer: str, method: str, field: str) -> list[str]:
    """Names of the symbols that may hold `field` for this run, the most specific first."""
    prefixes = (f"{model}_{optimizer}_", f"{model}_", f"{optimizer}_", f"{method}_", "")
    return [(prefix + field).upper() for prefix in prefixes]


def symbol_of(symbols: Symbols, model: str, optimizer: str, method: str, field: str) -> str | None:
    """The symbol that gives `field` its value in this run, or None where the field does not apply."""
    if method == "none" and field in PRUNING_FIELDS:
        return None
    key = (model, optimizer, method, field)
    if key not in symbols.found:
        names = candidates(model, optimizer, method, field)
        symbols.found[key] = next((name for name in names if name in symbols), None)
    return symbols.found[key]


def run_config(
    symbols: Symbols,
    model: str,
    optimizer: str,
    method: str,
    sparsity: float,
    seed: int,
    seed_in_name: bool = False,
) -> RunConfig:
    """The run of these five axes with every other field from the symbols. ConfigError where a value is not allowed.

    `sparsity` is the share of prunable weights that end as zeros, 0 to 1; it counts for nothing without pruning.
    """
    values: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "pruning_method": method,
        "target_sparsity": 0.0 if method == "none" else float(sparsity),
        "seed": seed,
        "seed_in_name": seed_in_name,
    }
    for field in FIELD_TYPES:
        if field not in AXIS_FIELDS:
            name = symbol_of(symbols, model, optimizer, method, field)
            values[field] = None if name is None else symbols.value(name)
    lacking = [field for field in REQUIRED_FIELDS if values[field] is None]
    if lacking:
        raise ConfigError([f"{model} with {optimizer}: no symbol gives {field}" for field in lacking])
    config = RunConfig(**values)
    if found := problems(symbols, config):
        raise ConfigError(f"{config.run_id}: {problem}" for problem in found)
    return config


def problems(symbols: Symbols, config: RunConfig) -> list[str]:
    """Every value of `config` that is missing or not allowed by Kconfig, and every pair that contradicts each other."""
    wrong = [
        f"{axis}={value}: unknown, allowed {', '.join(symbols.axis(prefix))}"
        for axis, prefix, value in (
            ("model", "MODEL", config.model),
            ("optimizer", "OPTIMIZER", config.optimizer),
            ("pruning", "PRUNING", config.pruning_method),
        )
        if value not in symbols.axis(prefix)
    ]
    if wrong:  # then it is not known which fields apply
        return wrong
    if not legal(config.optimizer, config.pruning_method):
        return [f"pruning_method={config.pruning_method}: {PAIRS}"]
    for field in FIELD_TYPES:
        if field not in ("model", "optimizer", "pruning_method"):
            name = symbol_of(symbols, config.model, config.optimizer, config.pruning_method, field)
            wrong += _problem(symbols, config, field, name)
    return wrong + _contradictions(config)


def _problem(symbols: Symbols, config: RunConfig, field: str, name: str | None) -> list[str]:
    """What is wrong with one field, whose symbol is `name` (None: it does not apply to such a run)."""
    value = getattr(config, field)
    if value is None:
        expected = name is not None and (field != "exponent" or config.criterion == "fisher")  # only fisher has one
        return [f"{field}: missing"] if expected else []
    if name is None:
        if field in AXIS_FIELDS:
            return []
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


def differences(a: RunConfig, b: RunConfig) -> list[str]:
    """Names of the fields in which two runs differ, in their order."""
    return [name for name in FIELD_TYPES if getattr(a, name) != getattr(b, name)]


def _typed(value: Any, kind: type) -> Any:
    """`value` as `kind`, where YAML's reading of it allows that without loss."""
    if value is None:
        return None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError("not a finite number")
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise ValueError(
            {int: "not a whole number", float: "not a number", bool: "not true or false"}.get(kind, "not text")
        )
    return value
