"""Removing a collection, and what others built on it where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.errors import Diagnostic

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import ViewsInTheWay
from embedfleet_schema.session import dependents
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, exposed, grants, locks, sync_triggers
from embedfleet_schema.types import CollectionInfo

_SQL = load("collections")

# Batches, and failures, that go in one transaction.
PAGE = 10_000


def drop(
    db: Database,
    collection: CollectionInfo,
    *,
    cascade: bool = False,
    along: Callable[[Connection[Any]], None] | None = None,
) -> list[str]:
    """Remove a collection with its documents, vectors, jobs and failures.

    Its tables go at once, whatever their size. Where it has many batches or failures, its jobs are
    cancelled and those rows go before, in pages: a drop that is cut off there is done again.

    With `cascade` the views of others that read it go too; returns what PostgreSQL says of them.
    What `along` does, is done in the same transaction.

    Raises:
        CollectionGone: it was dropped before; what has its name now is another one.
        ViewsInTheWay: others read it, and there is no `cascade`; nothing was removed.
    """
    told: list[str] = []

    def listen(notice: Diagnostic) -> None:
        told.extend((notice.message_detail or notice.message_primary or "").splitlines())

    behaviour = sql.SQL("CASCADE" if cascade else "RESTRICT")
    values = {"collection_id": collection.id, "limit": PAGE}
    with db.transaction() as conn:
        many = conn.execute(_SQL["many_rows"], values).fetchone()
    if many == (True,):
        _rehearse(db, collection, behaviour)
        _delete_rows(db, collection, values)
    with _dropping(db, collection) as conn:
        conn.add_notice_handler(listen)
        try:
            _drop_relations(conn, db, collection, behaviour)
            if along is not None:
                along(conn)
            conn.execute(_SQL["delete"], {"collection_id": collection.id})
        finally:
            conn.remove_notice_handler(listen)
    return [line for line in told if line.startswith("drop cascades to ")]


@contextmanager
def _dropping(db: Database, collection: CollectionInfo) -> Iterator[Connection[Any]]:
    """A transaction for whoever removes it."""
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        try:
            yield conn
        except psycopg.errors.DependentObjectsStillExist as error:
            raise ViewsInTheWay(name=collection.name, dependents=dependents(error)) from error


def _drop_relations(
    conn: Connection[Any], db: Database, collection: CollectionInfo, behaviour: sql.Composable
) -> None:
    name = sql.Identifier(collection.name)
    sync_triggers.drop_of(conn, collection)
    exposed.remove(conn, collection, behaviour)
    conn.execute(_SQL["drop_view"].format(name=name, behaviour=behaviour))
    grants.remove(conn, db, collection, behaviour)
    conn.execute(composed(_SQL["drop_tables"], collection, behaviour=behaviour))


def _rehearse(db: Database, collection: CollectionInfo, behaviour: sql.Composable) -> None:
    """Find out what is in the way, before anything is removed."""
    with _dropping(db, collection) as conn, conn.transaction():
        _drop_relations(conn, db, collection, behaviour)
        raise psycopg.Rollback


def _delete_rows(db: Database, collection: CollectionInfo, values: dict[str, int]) -> None:
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        conn.execute(_SQL["abandon_jobs"], values)
    for statement in ("delete_batches", "delete_failures"):
        deleted = PAGE
        while deleted == PAGE:
            with db.transaction() as conn:
                deleted = conn.execute(_SQL[statement], values).rowcount
