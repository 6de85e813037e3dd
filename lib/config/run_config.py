"""One training run as a flat, frozen record; YAML and back; what may change when a run is resumed.

How its fields follow from the Kconfig symbols stands in resolve.py. No import of torch.
"""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import yaml

from ..storage.safe_yaml import parse_yaml
from .errors import ConfigError
from .schema import Value


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Hold everything that decides what one run does. Meaning, unit and range of a field: the help of its symbol."""

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

    # What the model's own Kconfig adds, by name: see `setting`. In config.yaml they stand among the other fields.
    model_settings: tuple[tuple[str, Value], ...] = ()

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
        """Return the name of the run's folder: `<model>_<optimizer>_<method>[_<percent>][_<variant>][_seed<k>]`."""
        parts = [self.model, self.optimizer, self.pruning_method]
        if self.pruning_method != "none":
            parts.append(f"{round(100 * self.target_sparsity, 6):g}")
        if self.variant:
            parts.append(self.variant)
        if self.seed_in_name:
            parts.append(f"seed{self.seed}")
        return "_".join(parts)

    def setting(self, name: str) -> Any:
        """Return one of the model's own settings; KeyError where its Kconfig has none of that name."""
        return dict(self.model_settings)[name]

    def values(self) -> dict[str, Value]:
        """Return every field by name, the model's own settings among the others."""
        found: dict[str, Value] = {}
        for field in fields(self):
            found |= self.model_settings if field.name == OWN else {field.name: getattr(self, field.name)}
        return found

    def changed(self, **values: Any) -> RunConfig:
        """Return a copy with other values; every name that is no field is one of the model's own settings."""
        own = {name: values.pop(name) for name in set(values) - set(FIELD_TYPES)}
        return replace(self, model_settings=tuple((dict(self.model_settings) | own).items()), **values)

    def to_yaml(self) -> str:
        """Return the fields that apply, in order, one a line."""
        values = {name: value for name, value in self.values().items() if value is not None}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> RunConfig:
        """Return the run that to_yaml() wrote. Raises ConfigError for a wrong type or a missing field.

        A name that is no field counts as one of the model's own settings. Whether the model has it, and whether
        values are allowed, tells `problems`, which knows the Kconfig.
        """
        try:
            values = parse_yaml(text)
        except ValueError as error:
            raise ConfigError([f"not YAML: {error}"]) from None
        if not isinstance(values, dict):
            raise ConfigError(["not a run's configuration: one `field: value` a line is expected"])
        shared: dict[str, Any] = {}
        own: list[tuple[str, Value]] = []
        errors: list[str] = []
        for name, value in values.items():
            try:
                if name in FIELD_TYPES:
                    shared[name] = _typed(value, FIELD_TYPES[name])
                else:
                    own.append((str(name), _single(value)))
            except ValueError as error:
                errors.append(f"{name}={value}: {error}")
        errors += [f"{name}: missing" for name in REQUIRED_FIELDS if values.get(name) is None]
        if errors:
            raise ConfigError(errors)
        return cls(**shared, model_settings=tuple(own))


def _plain_type(hint: Any) -> type:
    """Return `float` for `float | None`."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint


OWN = "model_settings"
#: The fields that runs of every model have, with their types.
FIELD_TYPES: dict[str, type] = {
    n: _plain_type(hint) for n, hint in typing.get_type_hints(RunConfig).items() if n != OWN
}
REQUIRED_FIELDS = tuple(field.name for field in fields(RunConfig) if field.default is MISSING)
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
    """Return the names of the fields in which two runs differ, in their order."""
    left, right = a.values(), b.values()
    return [name for name in left | right if left.get(name) != right.get(name)]


def check_resumable(before: RunConfig, now: RunConfig) -> None:
    """Raise ConfigError unless a run that was started as `before` may be resumed as `now`."""
    reasons = []
    for name in not_resumable(before, now):
        was, is_now = before.values().get(name), now.values().get(name)
        rule = "they may only grow" if name == "epochs" else "choose another output folder"
        reasons.append(f"{name}={is_now}: this run was started with {was}; {rule}")
    if reasons:
        raise ConfigError(reasons)


def not_resumable(before: RunConfig, now: RunConfig) -> list[str]:
    """Return the names of the fields whose change keeps a run from being resumed.

    Only the number of epochs may grow: any other change would make a run that no one could repeat.
    """
    return [name for name in differences(before, now) if name != "epochs" or now.epochs < before.epochs]


def _typed(value: Any, kind: type) -> Any:
    """Return `value` as `kind`, where YAML's reading of it allows that without loss; else ValueError."""
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


def _single(value: Any) -> Value:
    """Return `value` if it is one number, text, true or false; else ValueError."""
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("not one value")
    return value
