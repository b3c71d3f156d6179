"""Removing a collection, and what others built on it where that is asked for."""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.errors import Diagnostic

from embedfleet_schema.database import Database
from embedfleet_schema.errors import ViewsInTheWay
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, grants, locks
from embedfleet_schema.types import CollectionInfo

_SQL = load("collections")


def drop(db: Database, collection: CollectionInfo, *, cascade: bool = False) -> list[str]:
    """Remove a collection with its documents, vectors, jobs and failures.

    With `cascade` the views of others that read it go too; returns what PostgreSQL says of them.

    Raises:
        CollectionGone: it was dropped before; what has its name now is another one.
        ViewsInTheWay: others read it, and there is no `cascade`; nothing was removed.
    """
    told: list[str] = []

    def listen(notice: Diagnostic) -> None:
        told.extend((notice.message_detail or notice.message_primary or "").splitlines())

    behaviour = sql.SQL("CASCADE" if cascade else "RESTRICT")
    name = sql.Identifier(collection.name)
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        collections.check_there(conn, collection)
        conn.add_notice_handler(listen)
        try:
            conn.execute(_SQL["drop_view"].format(name=name, behaviour=behaviour))
            grants.remove(conn, db, collection, behaviour)
            conn.execute(_SQL["delete"], {"collection_id": collection.id})
            conn.execute(composed(_SQL["drop_tables"], collection, behaviour=behaviour))
        except psycopg.errors.DependentObjectsStillExist as error:
            dependents = "; ".join((error.diag.message_detail or str(error)).splitlines())
            raise ViewsInTheWay(name=collection.name, dependents=dependents) from error
        finally:
            conn.remove_notice_handler(listen)
    return [line for line in told if line.startswith("drop cascades to ")]
