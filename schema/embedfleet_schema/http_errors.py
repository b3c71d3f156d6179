"""The errors of API keys. A class's docstring is its message."""

from __future__ import annotations

from embedfleet_schema.errors import UsageError


class ApiKeyExists(UsageError):
    """There is an API key {name!r} already, or was one that is revoked. Choose another name."""


class UnknownApiKey(UsageError):
    """There is no API key {name!r}. List them with: embedfleet key list"""


class BadApiKey(UsageError):
    """The API key cannot be made: {reason}."""
