"""One training run as a flat, frozen record; YAML and back; what may change when a run is resumed.

How its fields follow from the Kconfig symbols stands in resolve.py. No import of torch.
"""

from __future__ import annotations

import math
import types
import typing
from dataclasses import dataclass, fields
from typing import Any

import yaml

from ..storage.safe_yaml import parse_yaml
from .errors import ConfigError
from .schema import nearest


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


def differences(a: RunConfig, b: RunConfig) -> list[str]:
    """Names of the fields in which two runs differ, in their order."""
    return [name for name in FIELD_TYPES if getattr(a, name) != getattr(b, name)]


def check_resumable(before: RunConfig, now: RunConfig) -> None:
    """Raise ConfigError unless a run that was started as `before` may be resumed as `now`."""
    reasons = []
    for name in not_resumable(before, now):
        was, is_now = getattr(before, name), getattr(now, name)
        rule = "they may only grow" if name == "epochs" else "choose another output folder"
        reasons.append(f"{name}={is_now}: this run was started with {was}; {rule}")
    if reasons:
        raise ConfigError(reasons)


def not_resumable(before: RunConfig, now: RunConfig) -> list[str]:
    """Names of the fields whose change keeps a run from being resumed.

    Only the number of epochs may grow: any other change would make a run that no one could repeat.
    """
    return [name for name in differences(before, now) if name != "epochs" or now.epochs < before.epochs]


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
