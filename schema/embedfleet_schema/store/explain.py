"""Explain: why a document is not searchable yet, read from the rows in one snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psycopg import Connection, Cursor
from psycopg.rows import class_row, dict_row

from embedfleet_schema.database import Database, Row
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import spaces, workers
from embedfleet_schema.store.document_status import (
    MOST_AHEAD,
    ChunkFailure,
    Explanation,
    OpenBatch,
    State,
    Verdict,
)
from embedfleet_schema.store.keys import as_held
from embedfleet_schema.store.texts import judging
from embedfleet_schema.types import CollectionInfo

_SQL = load("explain")


def explain(db: Database, collection: CollectionInfo, key: str) -> Explanation:
    """Where a document stands, by its key in either spelling, and what it waits for."""
    with db.transaction() as conn:
        conn.execute(_SQL["one_snapshot"])
        (key,) = as_held(conn, collection, [key])
        named: dict[str, Any] = {"collection_id": collection.id, "key": key}
        verdicts = conn.cursor(row_factory=class_row(Verdict))
        rejection = verdicts.execute(_SQL["rejection"], named).fetchone()
        rows = conn.cursor(row_factory=dict_row)
        document = rows.execute(composed(_SQL["document"], collection), named).fetchone()
        if document is None:
            state: State = "unknown" if rejection is None else "rejected"
            return Explanation(collection.name, key, state, rejection=rejection)
        named["document_id"] = document["id"]
        found = _standing(conn, collection, document, named)
        if found.state != "live":
            found = _waiting(conn, collection, found, named)
        return replace(found, rejection=rejection)


def _standing(
    conn: Connection[Any], collection: CollectionInfo, document: Row, named: dict[str, Any]
) -> Explanation:
    cursor = conn.cursor(row_factory=class_row(ChunkFailure))
    failures = cursor.execute(composed(_SQL["failures"], collection), named).fetchall()
    state: State = "live" if document["stored"] == document["chunks"] else "incomplete"
    if document["live_version"] != document["version"]:
        state = "waiting"
    return Explanation(
        collection=collection.name,
        key=named["key"],
        state=state,
        version=document["version"],
        live_version=document["live_version"],
        job_id=document["job_id"],
        cancelled=document["cancelled"],
        source=document["source"],
        chunks=document["chunks"],
        stored=document["stored"],
        failures=failures,
    )


def _waiting(
    conn: Connection[Any], collection: CollectionInfo, found: Explanation, named: dict[str, Any]
) -> Explanation:
    """What the open batches of a document say, and whether somebody is there to take them."""
    batches: Cursor[OpenBatch] = conn.cursor(row_factory=class_row(OpenBatch))
    uncovered = conn.execute(judging(_SQL["uncovered"], collection), named).fetchone()
    open_batches = composed(_SQL["batches"], collection, alive=workers.ALIVE)
    return replace(
        found,
        batches=batches.execute(open_batches, named | {"most_ahead": MOST_AHEAD + 1}).fetchall(),
        uncovered=uncovered[0] if uncovered else 0,
        live_workers=workers.count_alive(conn, collection.queue),
        obstacle=workers.reason(conn, collection.queue),
        paused=spaces.pause_of(conn, collection.space_id),
    )
