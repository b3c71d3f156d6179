"""How much collections hold, in rows and on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg import sql
from psycopg.rows import dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import CollectionGone
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters
from embedfleet_schema.types import CollectionInfo

_SQL = load("collections")


@dataclass(frozen=True, slots=True)
class CollectionCounts:
    """How much a collection holds; `bytes` are those of its tables, and both include indexes.

    In a list of all, both are as the last vacuum or analyze of each table found them.
    """

    documents: int
    live_documents: int
    chunks: int
    vectors: int
    failures: int
    bytes: int
    vector_bytes: int
    indexed: bool


def counts(db: Database, collection: CollectionInfo) -> CollectionCounts:
    """How much one holds.

    Raises:
        CollectionGone: it was dropped.
    """
    found = _counts(db, sizes("measured"), {"collection_id": collection.id})
    if not found:
        raise CollectionGone(name=collection.name)
    return found[collection.id]


def counts_of_all(db: Database) -> dict[int, CollectionCounts]:
    """How much each holds, by its id."""
    return _counts(db, sizes("estimated"))


def sizes(name: Literal["measured", "estimated"]) -> sql.Composed:
    """The part of `counts` that says what there is on disk."""
    return _SQL[name].format(tables=_SQL["tables"])


def _counts(
    db: Database, of: sql.Composed, values: dict[str, int] | None = None
) -> dict[int, CollectionCounts]:
    statement = _SQL["counts"].format(of_collections=counters.OF_COLLECTIONS, sizes=of)
    with db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, values or {})
        return {row.pop("id"): CollectionCounts(**row) for row in cursor}
