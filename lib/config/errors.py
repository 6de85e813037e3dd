"""Exceptions that keep a command from its work; their text is for its user. No import of torch."""

from __future__ import annotations

from collections.abc import Iterable


class CommandError(Exception):
    """What a command cannot work with, in a sentence for its user. The command ends with exit code 2."""


class ConfigError(CommandError):
    """A configuration that cannot be used: every problem found, one sentence each."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))
