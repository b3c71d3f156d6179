"""The index that finds chunks by their metadata, built after the load as the HNSW index is.

Kept up while documents come in, it costs a fifth more time and log for each chunk: see
docs/performance.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("filter_index")
_COLLECTIONS = load("collections")

# Below that a filter reads all chunks in some 50 ms.
MANY_CHUNKS = 50_000


class Missed(NamedTuple):
    """A collection without such an index, and about how many chunks each filter reads."""

    name: str
    chunks: int


def build(db: Database, collection: CollectionInfo) -> str | None:
    """Build it without blocking writers; None where a usable one exists.

    One of ours that a former, interrupted build left invalid is dropped first.
    """
    name = _name(collection)
    with db.transaction() as conn:
        existing = dict(conn.execute(_SQL["found"], _table(collection)).fetchall())
    if any(existing.values()):
        return None
    with db.refusals(), db.direct() as conn:
        # A build waits for transactions that are older than it.
        conn.execute(_COLLECTIONS["set_build"], {"memory": "256MB", "workers": "2"})
        if name in existing:
            _drop(conn, name)
        statement = _SQL["create"].format(
            index=sql.Identifier(name), chunks=sql.Identifier(collection.chunks)
        )
        conn.execute(statement)
        conn.execute(composed(_COLLECTIONS["analyze"], collection))
    return name


def drop(db: Database, collection: CollectionInfo) -> None:
    """Drop ours; nothing happens where there is none."""
    with db.refusals(), db.direct() as conn:
        _drop(conn, _name(collection))


def missed(db: Database) -> list[Missed]:
    """Large collections whose filters read every chunk, the largest first."""
    with db.transaction() as conn:
        return [Missed(*row) for row in conn.execute(_SQL["missed"], {"chunks": MANY_CHUNKS})]


def _drop(conn: Connection[Any], name: str) -> None:
    conn.execute(_COLLECTIONS["drop_index"].format(index=sql.Identifier(name)))


def _name(collection: CollectionInfo) -> str:
    return f"{collection.chunks}_filter"


def _table(collection: CollectionInfo) -> dict[str, str]:
    return {"table": f"embedfleet.{collection.chunks}"}
