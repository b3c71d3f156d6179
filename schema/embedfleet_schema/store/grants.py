"""What a role may read of one collection: its view, or a search with the rights of its owner.

The view shows what is live, but a plan tells how many rows it passed by, and where; the search
tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import GrantUseless, LongName, UnknownRole
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, exposed, locks, ownership
from embedfleet_schema.types import CollectionInfo

_SQL = load("grants")

PREFIX = "search_"
LONGEST_NAME = 63


def function_name(collection: CollectionInfo) -> str:
    return PREFIX + collection.name


def grant(db: Database, collection: CollectionInfo, role: str) -> str:
    """Let a role search one collection and see nothing else; returns the function's name.

    Raises:
        CollectionGone: it was dropped.
        UnknownRole: the server has no such role.
        GrantUseless: the role can read the view or the tables of the collection already.
        LongName: the collection's name leaves no room for the function's.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    check_length(collection)
    with db.transaction() as conn:
        # It must not be made for a collection that is just dropped, or for one of the same name.
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        _check(conn, role, collection)
        # The function runs with the rights of whoever makes it, which are not to be a superuser's.
        ownership.become_owner(conn)
        define(conn, db, collection)
        granted = parts(db, collection) | {"role": sql.Identifier(role)}
        for statement in ("open_schema", "grant_search"):
            conn.execute(_SQL[statement].format(**granted))
    return function_name(collection)


def check_length(collection: CollectionInfo) -> None:
    """Raise LongName where no function can be named after it."""
    if len(function_name(collection)) > LONGEST_NAME:
        raise LongName(name=collection.name, most=LONGEST_NAME - len(PREFIX))


def define(conn: Connection[Any], db: Database, collection: CollectionInfo) -> None:
    """The function itself, in the place of one for vectors of the same type."""
    for statement in ("create_search", "close_search"):
        conn.execute(_SQL[statement].format(**parts(db, collection)))


def revoke(db: Database, collection: CollectionInfo, role: str) -> None:
    """Take back what `grant` gave; nothing happens where it gave nothing.

    Raises:
        CollectionGone: it was dropped.
        UnknownRole: the server has no such role.
    """
    with _owned(db, collection, role) as conn:
        granted = parts(db, collection) | {"role": sql.Identifier(role)}
        signature = sql.SQL("embedfleet.{function}({type}, int, jsonb)").format(**granted)
        row = conn.execute(_SQL["search_exists"], {"signature": signature.as_string(conn)})
        if row.fetchone() == (True,):
            conn.execute(_SQL["revoke_search"].format(**granted))


def grant_view(db: Database, collection: CollectionInfo, role: str) -> None:
    """Let a role read the view of one collection with SQL, and the one that is exposed.

    Raises:
        CollectionGone: it was dropped.
        UnknownRole: the server has no such role.
        NotPermitted: the user neither owns the schema nor may act as its owner.
    """
    with _owned(db, collection, role) as conn:
        conn.execute(_SQL["open_schema"].format(role=sql.Identifier(role)))
        values = {"collection_id": collection.id, "space_id": collection.space_id, "role": role}
        for view in (collection.name, *exposed.views(conn, collection)):
            conn.execute(_SQL["grant_view"], values | {"view": view})


def revoke_view(db: Database, collection: CollectionInfo, role: str) -> None:
    """Take back what `grant_view` gave."""
    with _owned(db, collection, role) as conn:
        for view in (collection.name, *exposed.views(conn, collection)):
            named = {"view": sql.Identifier(view), "role": sql.Identifier(role)}
            conn.execute(composed(_SQL["revoke_view"], collection, **named))


def remove(
    conn: Connection[Any], db: Database, collection: CollectionInfo, behaviour: sql.Composable
) -> None:
    """Drop the function with its collection; what others built on it by CASCADE or RESTRICT."""
    dropped = parts(db, collection) | {"behaviour": behaviour}
    conn.execute(_SQL["drop_search"].format(**dropped))


@contextmanager
def _owned(db: Database, collection: CollectionInfo, role: str) -> Iterator[Connection[Any]]:
    """A transaction of the owner, in which the collection and the role are there."""
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        _check_role(conn, role)
        ownership.become_owner(conn)
        yield conn


def _check(conn: Connection[Any], role: str, collection: CollectionInfo) -> None:
    _check_role(conn, role)
    relations = [collection.name, *exposed.views(conn, collection), *collection.tables]
    values = {"role": role, "relations": relations}
    readable = [name for (name,) in conn.execute(_SQL["readable"], values)]
    if readable:
        raise GrantUseless(role=role, name=collection.name, readable=", ".join(readable))


def _check_role(conn: Connection[Any], role: str) -> None:
    if conn.execute(_SQL["role_exists"], {"role": role}).fetchone() != (True,):
        raise UnknownRole(role=role)


def parts(db: Database, collection: CollectionInfo) -> dict[str, sql.Composable]:
    """What the statements about the function name."""
    space = collection.space
    return {
        "function": sql.Identifier(function_name(collection)),
        "collection": sql.Literal(collection.name),
        "vector": sql.Identifier(db.vector_schema, "vector"),
        "type": sql.Identifier(db.vector_schema, space.storage),
        "distance": sql.SQL("1 - s.score" if space.metric == "cosine" else "- s.score"),
    }
