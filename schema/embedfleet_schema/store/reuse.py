"""Vectors that other collections of the same space have: a text is not paid for twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import UndefinedTable

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo, as_uuids, text_table, vector_table

_SQL = load("reuse")

# Each is a look-up per batch: where a thousand tenants share a model, asking all of them would
# take longer than embedding anew.
SIBLINGS_ASKED = 16


def siblings(conn: Connection[Any], collection: CollectionInfo) -> list[int]:
    """The newest other collections of the space, by number; none where it keeps to itself."""
    if collection.reuse == "none":
        return []
    values = {
        "space_id": collection.space_id,
        "collection_id": collection.id,
        "precision": collection.precision,
        "limit": SIBLINGS_ASKED,
    }
    rows = conn.execute(_SQL["siblings"], values)
    return [sibling for (sibling,) in rows]


def _of(sibling: int, collection: CollectionInfo) -> dict[str, sql.Identifier]:
    """The tables of a sibling, as statements name them."""
    return {
        "other_texts": sql.Identifier(text_table(sibling)),
        "other_vectors": sql.Identifier(vector_table(sibling, collection.space_id)),
    }


class Elsewhere:
    """Counts what siblings have, as one call of a producer knows them: they are listed once."""

    def __init__(self, db: Database, collection: CollectionInfo) -> None:
        self._db = db
        self._collection = collection
        self._siblings: list[int] | None = None

    def count(self, hashes: Collection[bytes]) -> int:
        """How many of the texts a worker will copy: those that only siblings have a vector of."""
        if not hashes:
            return 0
        if self._siblings is None:
            self._siblings = self._listed()
        try:
            return self._count(hashes, self._siblings)
        except UndefinedTable:
            # A sibling was dropped since it was listed: a new list is without it.
            self._siblings = self._listed()
            return self._count(hashes, self._siblings)

    def _listed(self) -> list[int]:
        with self._db.transaction() as conn:
            return siblings(conn, self._collection)

    def _count(self, hashes: Collection[bytes], others: Sequence[int]) -> int:
        if not others:
            return 0
        held = [_SQL["held"].format(**_of(sibling, self._collection)) for sibling in others]
        statement = composed(_SQL["count"], self._collection, held=sql.SQL(" OR ").join(held))
        with self._db.transaction() as conn:
            row = conn.execute(statement, {"hashes": as_uuids(hashes)}).fetchone()
        return int(row[0]) if row else 0


def copy(
    conn: Connection[Any],
    collection: CollectionInfo,
    text_ids: Sequence[int],
    others: Sequence[int],
) -> set[int]:
    """Copy the vectors of these texts that siblings have; returns whose they are."""
    left, copied = set(text_ids), set[int]()
    for sibling in others:
        if not left:
            break
        statement = composed(_SQL["copy"], collection, **_of(sibling, collection))
        found = {text_id for (text_id,) in conn.execute(statement, {"texts": sorted(left)})}
        left -= found
        copied |= found
    return copied
