"""The batches that a file of the batch lane has: what they hold, and what becomes of each.

Every write is fenced by the attempt under which the file leased them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import collections, documents, exits, locks
from embedfleet_schema.store.exits import Open
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.types import CollectionInfo

_SQL = load("lane")
_BATCHES = load("batches")

Settled = Literal["done", "failed", "live", "lost"]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the provider does not take a text."""

    code: str
    reason: str


def leases(db: Database, file_id: int) -> list[Lease]:
    """The open batches of a file, all their hashes, and empty strings for texts: see `texts`."""
    with db.connection() as conn:
        rows = conn.execute(_SQL["leases"], {"file_id": file_id}).fetchall()
        infos = {row[4]: collections.by_id(conn, row[4]) for row in rows}
    return [
        Lease(
            id=batch_id,
            attempt=attempt,
            errors=errors,
            job_id=job_id,
            collection=infos[collection_id],
            tokens=tokens,
            hashes=[bytes(sha256) for sha256 in hashes],
            texts=[""] * len(hashes),
        )
        for batch_id, attempt, errors, job_id, collection_id, tokens, hashes in rows
    ]


def texts(db: Database, collection: CollectionInfo, hashes: list[bytes]) -> dict[bytes, str]:
    """Those of the texts that have no vector yet."""
    statement = _BATCHES["missing_texts"].format(vectors=sql.Identifier(collection.vectors))
    with db.connection() as conn:
        rows = conn.execute(statement, {"hashes": hashes, "collection_id": collection.id})
        return {bytes(sha256): content for sha256, content, _ in rows}


def jobs(db: Database, file_id: int) -> dict[int, int]:
    """The job of each batch that was ever in the file."""
    with db.connection() as conn:
        return dict(conn.execute(_SQL["jobs"], {"file_id": file_id}).fetchall())


def settle(db: Database, lease: Lease, failed: Mapping[bytes, Failed], reason: str) -> Settled:
    """Close a batch whose answers are stored.

    Texts of `failed` get a failure; what has neither goes to the workers of its collection, for
    `reason`, which is a state for the whole batch unless some of it failed.
    """
    with db.transaction() as conn:
        locks.share(conn, lease.collection.id)
        named = {"id": lease.id, "attempt": lease.attempt}
        row = conn.execute(_BATCHES["fence"], named).fetchone()
        if row is None:
            return "lost"
        hashes, paused, cancelled, _ = row
        hashes = [bytes(sha256) for sha256 in hashes]
        state = exits.standing(paused=paused, cancelled=cancelled)
        missing = exits.missing(conn, lease.collection, hashes)
        left = [sha256 for sha256 in missing if sha256 not in failed]
        dead = _record(conn, lease, {each: failed[each] for each in missing if each in failed})
        replaced = documents.go_live(conn, lease.collection, hashes)
        settled = _close(conn, lease, state, left, dead, reason)
    documents.prune(db, lease.collection, replaced)
    return settled


def _close(
    conn: Connection[Any], lease: Lease, state: Open, left: list[bytes], dead: int, reason: str
) -> Settled:
    if not left:
        closed = "dead" if dead else "done"
        exits.finish(conn, lease.collection, lease.id, closed, _given_up(dead), failed=dead)
        return "failed" if dead else "done"
    values = {"id": lease.id, "state": state, "reason": reason}
    if not dead:
        conn.execute(_SQL["release_live"], values)
        return "live"
    conn.execute(_SQL["insert_live"], values | {"hashes": left})
    given_up = {"id": lease.id, "texts": dead, "reason": _given_up(dead)}
    conn.execute(_SQL["insert_dead"], given_up)
    exits.finish(conn, lease.collection, lease.id, "split", reason)
    return "live"


def _record(conn: Connection[Any], lease: Lease, failed: Mapping[bytes, Failed]) -> int:
    """A failure for each text that still has a chunk; returns how many there are."""
    by_verdict: dict[Failed, list[bytes]] = defaultdict(list)
    for sha256, verdict in failed.items():
        by_verdict[verdict].append(sha256)
    statement = _BATCHES["record_failure"].format(vectors=sql.Identifier(lease.collection.vectors))
    recorded = 0
    for verdict, hashes in by_verdict.items():
        values = {"id": lease.id, "hashes": hashes, "code": verdict.code, "reason": verdict.reason}
        recorded += len(conn.execute(statement, values).fetchall())
    return recorded


def _given_up(texts: int) -> str | None:
    return f"the batch API refused {texts} of its texts" if texts else None
