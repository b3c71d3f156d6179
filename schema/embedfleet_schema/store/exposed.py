"""Views in which other libraries find the columns that their own tables have."""

from __future__ import annotations

from typing import Any, Literal

from psycopg import Connection, sql

from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.exchange_errors import ExposeRefused
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, locks, ownership
from embedfleet_schema.types import CollectionInfo

_SQL = load("exposed")

LIBRARIES = ("llamaindex",)
# LlamaIndex puts it before the name of a table.
PREFIX = "data_"
LONGEST_NAME = 63

State = Literal["ours", "other", "none"]


def view_name(collection: CollectionInfo) -> str:
    return PREFIX + collection.name


def expose(db: Database, collection: CollectionInfo) -> str:
    """Make the view for LlamaIndex's PGVectorStore, or make it anew; returns its name.

    Raises:
        CollectionGone: it was dropped.
        ExposeRefused: the name is too long, or something else has it.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    name = view_name(collection)
    if len(name) > LONGEST_NAME:
        reason = f"the collection's name has more than {LONGEST_NAME - len(PREFIX)} characters"
        raise ExposeRefused(view=name, reason=reason)
    with db.transaction() as conn:
        conn.execute(_SQL["serialize"], {"space": LOCK_SPACE, "name": name})
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        if _state(conn, collection) == "other":
            reason = "the schema embedfleet has a relation of that name"
            raise ExposeRefused(view=name, reason=reason)
        ownership.become_owner(conn)
        create(conn, collection)
    return name


def create(conn: Connection[Any], collection: CollectionInfo) -> None:
    """The view itself, in the place of one of the same columns; the transaction is the owner's."""
    view = sql.Identifier(view_name(collection))
    conn.execute(composed(_SQL["create_llamaindex"], collection, view=view))
    conn.execute(_SQL["grant"].format(view=view))


def unexpose(db: Database, collection: CollectionInfo) -> bool:
    """Drop the view; returns whether there was one.

    Raises:
        CollectionGone: it was dropped, and the view with it.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        if _state(conn, collection) != "ours":
            return False
        ownership.become_owner(conn)
        _drop(conn, collection, sql.SQL("RESTRICT"))
    return True


def remove(conn: Connection[Any], collection: CollectionInfo, behaviour: sql.Composable) -> None:
    """Drop the view with its collection."""
    if _state(conn, collection) == "ours":
        _drop(conn, collection, behaviour)


def views(conn: Connection[Any], collection: CollectionInfo) -> list[str]:
    """The views that are opened and closed with that of the collection."""
    return [view_name(collection)] if _state(conn, collection) == "ours" else []


def _drop(conn: Connection[Any], collection: CollectionInfo, behaviour: sql.Composable) -> None:
    view = sql.Identifier(view_name(collection))
    conn.execute(_SQL["drop"].format(view=view, behaviour=behaviour))


def _state(conn: Connection[Any], collection: CollectionInfo) -> State:
    values = {"view": view_name(collection), "documents": collection.documents}
    row = conn.execute(_SQL["find"], values).fetchone()
    if row is None:
        return "none"
    return "ours" if row[0] else "other"
