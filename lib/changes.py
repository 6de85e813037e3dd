"""What may change when a run goes on. No import of torch."""

from __future__ import annotations

from .config.run_config import ConfigError, RunConfig, differences


def refuse_changes(before: RunConfig, now: RunConfig) -> None:
    """Only epochs may grow: any other change would make a run that no one could repeat. Raises ConfigError."""
    problems = [
        f"{name}={getattr(now, name)}: this run was started with {getattr(before, name)}; choose another output folder"
        for name in differences(before, now)
        if name != "epochs"
    ]
    if now.epochs < before.epochs:
        problems.append(f"epochs={now.epochs}: this run was started with {before.epochs}; they may only grow")
    if problems:
        raise ConfigError(problems)
