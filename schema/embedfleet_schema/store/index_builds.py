"""Index builds: each in a session of its own, alone in its collection, and tidy where it fails.

A build that is cut off leaves an index that nobody can use and everybody who writes keeps up. It is
dropped at once where that is possible, and else by the next build.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from embedfleet_schema.database import INDEX_LOCK_SPACE, Database, Row
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("index_builds")

POLL_S = 1.0


@contextmanager
def alone(
    db: Database,
    collection: CollectionInfo,
    *,
    memory_mb: int,
    workers: int | None = None,
    wait_s: float | None = None,
) -> Iterator[Connection[Any]]:
    """A session that alone changes the indexes of a collection, and ends with this process.

    Args:
        memory_mb: `maintenance_work_mem` of its builds.
        workers: parallel workers of its builds; None leaves it to the server.
        wait_s: how long it waits for another one; by default as for any lock.

    Raises:
        Blocked: another one is at it.
    """
    wait_s = db.lock_wait_s if wait_s is None else wait_s
    with db.refusals(), db.direct() as conn:
        until = time.monotonic() + wait_s
        while not _locked(conn, collection):
            if time.monotonic() >= until:
                raise db.blocked([INDEX_LOCK_SPACE], seconds=wait_s)
            time.sleep(POLL_S)
        values = {"memory": f"{memory_mb}MB", "workers": None if workers is None else str(workers)}
        conn.execute(_SQL["set_build"], values)
        # Where the server's system cannot tell (Windows), a build goes on as before.
        with suppress(psycopg.errors.InvalidParameterValue):
            conn.execute(_SQL["watch_client"])
        yield conn


def create(
    conn: Connection[Any],
    collection: CollectionInfo,
    statement: sql.Composed,
    *,
    stale: Sequence[str],
    remains: Sequence[str],
) -> None:
    """Run a statement that builds an index without blocking writers, and take statistics.

    Args:
        stale: indexes that are dropped first.
        remains: what the statement may leave behind where it fails: dropped then.
    """
    for index in stale:
        drop(conn, index)
    try:
        conn.execute(statement)
    except BaseException:
        # What went wrong is that. A lost connection, or somebody who writes for long, leaves them
        # to the next build.
        with suppress(psycopg.Error):
            conn.execute(_SQL["be_brief"])
            for index in remains:
                drop(conn, index)
        raise
    conn.execute(composed(_SQL["analyze"], collection))


def drop(conn: Connection[Any], name: str) -> None:
    """Drop an index without blocking anybody; nothing happens where there is none."""
    conn.execute(_SQL["drop"].format(index=sql.Identifier(name)))


def progress(db: Database, collection: CollectionInfo) -> Row | None:
    """The row of pg_stat_progress_create_index, while an index of the collection is built."""
    tables = [f"embedfleet.{name}" for name in collection.tables]
    with db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["progress"], {"tables": tables})
        return cursor.fetchone()


def _locked(conn: Connection[Any], collection: CollectionInfo) -> bool:
    values = {"space": INDEX_LOCK_SPACE, "collection_id": collection.id}
    row = conn.execute(_SQL["alone"], values).fetchone()
    return row is not None and bool(row[0])
