"""Errors of other libraries at the edge: each becomes one of ours, with what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import (
    ConnectionsInUse,
    DatabaseError,
    DatabaseUnreachable,
    ReadOnlyDatabase,
)
from embedfleet_schema.errors import CollectionGone, EmbedfleetError
from embedfleet_schema.session import brief

_OWN = "_embedfleet_callers_own"
# What a statement over a collection meets once that is dropped: its tables, or its row.
_GONE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.ForeignKeyViolation,
)
_LOST = (
    psycopg.errors.OperatorIntervention,
    psycopg.errors.ConnectionException,
    psycopg.errors.ProtocolViolation,  # so a pooler says that it has no session, or lost one
    psycopg.InterfaceError,
)


def callers_own(error: Exception) -> None:
    """Mark what a caller's own code raised: it passes the edge as it is."""
    setattr(error, _OWN, True)


@contextmanager
def translated(db: Database, collection: str | None = None) -> Iterator[None]:
    """Raise errors of the driver as ours; `collection` is the one that is worked on."""
    try:
        yield
    except psycopg.Error as error:
        # One of ours may be one of the driver's, too, for those who try again.
        if isinstance(error, EmbedfleetError) or getattr(error, _OWN, False):
            raise
        raise _ours(error, db, collection) from error


def _ours(error: psycopg.Error, db: Database, collection: str | None) -> EmbedfleetError:
    if isinstance(error, PoolTimeout) and db.exhausted:
        return ConnectionsInUse(count=db.max_connections)
    if collection is not None and isinstance(error, _GONE):
        return CollectionGone(name=collection)
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return ReadOnlyDatabase(url=db.name)
    # Without an SQLSTATE it comes from the way to the server.
    if isinstance(error, _LOST) or (
        isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    ):
        return DatabaseUnreachable(url=db.name, reason=brief(error))
    return DatabaseError(url=db.name, reason=brief(error))
