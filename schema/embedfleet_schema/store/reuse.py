"""Vectors that other collections of the same space have: a text is not paid for twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import UndefinedTable

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo, vector_table

_SQL = load("reuse")

# Each is a look-up per batch: where a thousand tenants share a model, asking all of them would
# take longer than embedding anew.
SIBLINGS_ASKED = 16


def siblings(conn: Connection[Any], collection: CollectionInfo) -> list[str]:
    """The vector tables of the newest other collections of the space."""
    values = {
        "space_id": collection.space_id,
        "collection_id": collection.id,
        "limit": SIBLINGS_ASKED,
    }
    rows = conn.execute(_SQL["siblings"], values)
    return [vector_table(sibling, collection.space_id) for (sibling,) in rows]


class Elsewhere:
    """Counts what siblings have, as one call of a producer knows them: they are listed once."""

    def __init__(self, db: Database, collection: CollectionInfo) -> None:
        self._db = db
        self._collection = collection
        self._tables: list[str] | None = None

    def count(self, hashes: Collection[bytes]) -> int:
        """How many of the texts a worker will copy: those that only siblings have a vector of."""
        if not hashes:
            return 0
        if self._tables is None:
            self._tables = self._listed()
        try:
            return self._count(hashes, self._tables)
        except UndefinedTable:
            # A sibling was dropped since it was listed: a new list is without it.
            self._tables = self._listed()
            return self._count(hashes, self._tables)

    def _listed(self) -> list[str]:
        with self._db.connection() as conn:
            return siblings(conn, self._collection)

    def _count(self, hashes: Collection[bytes], tables: Sequence[str]) -> int:
        if not tables:
            return 0
        held = [_SQL["held"].format(sibling=sql.Identifier(table)) for table in tables]
        statement = composed(_SQL["count"], self._collection, held=sql.SQL(" OR ").join(held))
        with self._db.connection() as conn:
            row = conn.execute(statement, {"hashes": list(hashes)}).fetchone()
        return int(row[0]) if row else 0


def copy(
    conn: Connection[Any],
    collection: CollectionInfo,
    hashes: Sequence[bytes],
    tables: Sequence[str],
    *,
    batch_id: int,
    attempt: int,
) -> set[bytes]:
    """Copy the vectors of `hashes` that are in `tables`; returns whose they are."""
    left, copied = set(hashes), set[bytes]()
    for table in tables:
        if not left:
            break
        values = {"id": batch_id, "attempt": attempt, "hashes": sorted(left)}
        statement = composed(_SQL["copy"], collection, sibling=sql.Identifier(table))
        found = {bytes(sha256) for (sha256,) in conn.execute(statement, values)}
        left -= found
        copied |= found
    return copied
