"""The exception for data that cannot be used. No import of torch."""

from __future__ import annotations

from ..config.errors import CommandError


class DataError(CommandError):
    """A data set that is absent, incomplete or damaged; the message says what to do about it."""
