"""The errors of syncs: a collection follows a table. See `errors` for how they are made."""

from __future__ import annotations

from embedfleet_schema.errors import EmbedfleetError, UsageError


class UnknownSync(UsageError):
    """Collection {name!r} follows no table. Create a sync with: embedfleet sync create {name}
    --table TABLE --key COLUMN --text COLUMN
    """


class SyncExists(UsageError):
    """Collection {name!r} follows {table} already, in another way. Drop that first; its documents
    stay: embedfleet sync drop {name}
    """


class SyncRefused(UsageError):
    """{table} cannot be followed: {reason}."""


class SyncStopped(EmbedfleetError):
    """The sync of {name!r} stands still: {reason}."""


class TurnLost(EmbedfleetError):
    """Another process took over the sync of {name!r}, so this one stored nothing more. What it left
    is done there.
    """
