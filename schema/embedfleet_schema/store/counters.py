"""How much there is, without counting: what transactions changed, and what was added up of it.

Whoever changes what is counted appends one small row in the same transaction, most often in the
same statement, and waits for nobody. The sweep adds those rows up; who reads adds the rest.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import locks
from embedfleet_schema.types import CollectionInfo

_SQL = load("counters")

# Changes that are added up in one transaction, and how many of those there are in one sweep: more
# than a fleet makes until the next.
PAGE = 10_000
PAGES = 20

# Parts of statements elsewhere, by the names that stand for them there.
OF_FAILURES: dict[str, sql.SQL] = {
    name: _SQL[name] for name in ("is_new", "count_failures", "count_forgotten")
}
OF_BATCHES = {name: _SQL[name] for name in ("row", "count")}
OF_COLLECTIONS = _SQL["of_collections"]
OF_JOBS = _SQL["of_jobs"]


def counting_failures(statement: sql.SQL) -> sql.Composed:
    """A statement that counts what it does to failures."""
    return statement.format(**OF_FAILURES)


def count_window(
    conn: Connection[Any],
    collection: CollectionInfo,
    *,
    documents: int = 0,
    chunks: int = 0,
    vectors: int = 0,
) -> None:
    """Count what a producer's window adds, in its transaction."""
    values = {"documents": documents, "chunks": chunks, "vectors": vectors}
    values["collection_id"] = collection.id
    conn.execute(_SQL["count_window"], values)


def fold(short_waits: locks.ShortWaits) -> None:
    """Add up what changed, a page at a time."""
    for _ in range(PAGES):
        with short_waits.transaction() as conn:
            row = conn.execute(_SQL["fold"], {"limit": PAGE}).fetchone()
        if row is None or row[0] < PAGE:
            return


def miscounted(db: Database, collection: CollectionInfo) -> int:
    """How many counters of a collection and its jobs are not what their rows say."""
    with db.transaction() as conn:
        row = conn.execute(_comparing("check", collection), {"collection_id": collection.id})
        return int((row.fetchone() or (0,))[0])


def repair(db: Database, collection: CollectionInfo) -> None:
    """Set the counters right, beside those who change them, one after the other."""
    with db.transaction() as conn:
        locks.repair_alone(conn, collection.id)
        conn.execute(_comparing("repair", collection), {"collection_id": collection.id})


def _comparing(statement: str, collection: CollectionInfo) -> sql.Composed:
    differences = composed(
        _SQL["differences"], collection, of_collections=OF_COLLECTIONS, of_jobs=OF_JOBS
    )
    return _SQL[statement].format(differences=differences)
