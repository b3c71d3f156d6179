"""The index that finds chunks by their metadata, where a collection was created without it.

Kept up while documents come in, it costs a fifth more time and log for each chunk: see
docs/performance.md. So a large load may go without it, and it is built here afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import index_builds
from embedfleet_schema.types import CollectionInfo

_SQL = load("filter_index")
_FOUND = _SQL["found"].format(
    indexes=_SQL["indexes"].format(chunks=sql.SQL("to_regclass(%(table)s)"))
)
_MISSED = _SQL["missed"].format(indexes=_SQL["indexes"].format(chunks=sql.SQL("h.oid")))

# What a build takes: it is quick with that.
MEMORY_MB, WORKERS = 256, 2
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
        existing = dict(
            conn.execute(_FOUND, {"table": f"embedfleet.{collection.chunks}"}).fetchall()
        )
    if any(existing.values()):
        return None
    create = _SQL["create"].format(
        index=sql.Identifier(name), chunks=sql.Identifier(collection.chunks)
    )
    stale = [name] if name in existing else []
    with index_builds.alone(db, collection, memory_mb=MEMORY_MB, workers=WORKERS) as conn:
        index_builds.create(conn, collection, create, stale=stale, remains=[name])
    return name


def drop(db: Database, collection: CollectionInfo) -> None:
    """Drop ours; nothing happens where there is none."""
    with index_builds.alone(db, collection, memory_mb=MEMORY_MB) as conn:
        index_builds.drop(conn, _name(collection))


def missed(db: Database) -> list[Missed]:
    """Large collections whose filters read every chunk, the largest first."""
    with db.transaction() as conn:
        return [Missed(*row) for row in conn.execute(_MISSED, {"chunks": MANY_CHUNKS})]


def _name(collection: CollectionInfo) -> str:
    return f"{collection.chunks}_filter"
