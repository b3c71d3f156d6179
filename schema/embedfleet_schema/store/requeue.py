"""Stored texts that are queued again: what failed, and what a repair found missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import jobs, locks
from embedfleet_schema.store.jobs import JobKind, Tally
from embedfleet_schema.store.texts import judging, still_without
from embedfleet_schema.types import CollectionInfo

_SQL = load("failures")


def retry_failures(
    db: Database,
    collection: CollectionInfo,
    *,
    budget: int,
    job_id: int | None = None,
    budget_usd: float | None = None,
) -> int | None:
    """Try failed texts again in a job of their own; None where there are none but in open batches.

    The lock makes two calls at once take turns: the later one sees the batches of the earlier.
    """
    with db.transaction() as conn:
        locks.repair_alone(conn, collection.id)
        rows = conn.execute(
            judging(_SQL["to_retry"], collection),
            {"collection_id": collection.id, "job_id": job_id},
        ).fetchall()
        return requeue(conn, collection, "retry", rows, budget=budget, budget_usd=budget_usd)


def requeue(
    conn: Connection[Any],
    collection: CollectionInfo,
    kind: JobKind,
    found: Sequence[tuple[int, int]],
    *,
    budget: int,
    budget_usd: float | None = None,
) -> int | None:
    """A job of stored texts, complete as it is made, in batches of `budget` tokens.

    They were looked for without the collection's lock, because that takes long; it is taken here.
    None where no text is left.
    """
    locks.share(conn, collection.id)
    texts = still_without(conn, collection, found)
    if not texts:
        return None
    job_id = jobs.create(conn, collection, kind, budget_usd=budget_usd)
    jobs.put_batches(conn, collection, job_id, texts, budget=budget)
    jobs.count(conn, job_id, Tally(chunks=len(texts)))
    jobs.loaded(conn, job_id)
    return job_id
