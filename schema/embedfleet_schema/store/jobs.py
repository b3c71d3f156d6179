"""Jobs: what a person waits for, pauses, cancels and tries again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from embedfleet_schema.database import Database, Row
from embedfleet_schema.errors import UnknownJob
from embedfleet_schema.packing import pack
from embedfleet_schema.statements import load
from embedfleet_schema.store.batches import Open, standing
from embedfleet_schema.types import CollectionInfo, Queue

_SQL = load("jobs")
_INGEST = load("ingest")

JobKind = Literal["enqueue", "repair", "retry"]
JobState = Literal["loading", "running", "paused", "cancelled", "done"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands.

    `chunks` counts the chunks of its documents; of their distinct texts, `reused` had a vector
    already, `queued` wait or are being embedded, `embedded` are done, `failed` have a failure.
    Rates look back at most 30 seconds; `eta_seconds` is None while there is no rate.
    """

    id: int
    kind: JobKind
    collection: str
    queue: Queue
    state: JobState
    documents: int
    unchanged: int
    rejected: int
    chunks: int
    reused: int
    queued: int
    embedded: int
    failed: int
    chunks_per_second: float
    tokens_per_second: float
    eta_seconds: float | None
    elapsed_seconds: float
    created_at: datetime
    reason: str | None

    @property
    def finished(self) -> bool:
        return self.state in ("done", "cancelled")

    @property
    def total(self) -> int:
        """Distinct texts that the job queued."""
        return self.queued + self.embedded + self.failed


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """A chunk that cannot be embedded (`position` is set), or a document that was not accepted."""

    document: str | None
    position: int | None
    code: str
    reason: str
    attempts: int
    job_id: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """What one window adds to a job's counts."""

    documents: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    reused: int = 0


def create(conn: Connection[Any], collection: CollectionInfo, kind: JobKind) -> int:
    row = conn.execute(_SQL["create"], {"collection_id": collection.id, "kind": kind}).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    return int(row[0])


def count(conn: Connection[Any], job_id: int, tally: Tally) -> None:
    values = {name: getattr(tally, name) for name in Tally.__dataclass_fields__}
    conn.execute(_SQL["count"], values | {"job_id": job_id})


def loaded(conn: Connection[Any], job_id: int) -> None:
    """The producer has handed over everything."""
    conn.execute(_SQL["loaded"], {"job_id": job_id})


def put_batches(
    conn: Connection[Any],
    collection: CollectionInfo,
    job_id: int,
    texts: Iterable[tuple[bytes, int]],
    *,
    budget: int,
) -> int:
    """Pack (sha256, tokens) pairs into batches of a job; returns how many there are."""
    packs = pack(texts, budget)
    if not packs:
        return 0
    state = _standing(conn, job_id)
    with conn.cursor() as cursor:
        cursor.executemany(
            _INGEST["insert_batches"],
            [
                {
                    "job_id": job_id,
                    "collection_id": collection.id,
                    "queue": collection.queue,
                    "state": state,
                    "priority": 0,
                    "chunks": len(packed.hashes),
                    "tokens": packed.tokens,
                    "hashes": packed.hashes,
                }
                for packed in packs
            ],
        )
    return len(packs)


def status(db: Database, job_id: int) -> JobStatus:
    """Where a job stands now.

    Raises:
        UnknownJob: there is none of this id.
    """
    with db.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_SQL["status"], {"job_id": job_id}).fetchone()
    if row is None:
        raise UnknownJob(job=job_id)
    return _status(row)


def latest(db: Database, *, limit: int = 20, collection_id: int | None = None) -> list[int]:
    """Job ids: those that still run first, then the newest."""
    with db.connection() as conn:
        rows = conn.execute(_SQL["latest"], {"limit": limit, "collection_id": collection_id})
        return [job_id for (job_id,) in rows]


def pause(db: Database, job_id: int) -> None:
    _change(db, job_id, "pause", "hold_batches")


def resume(db: Database, job_id: int) -> None:
    _change(db, job_id, "resume", "unhold_batches")


def cancel(db: Database, job_id: int) -> None:
    """Stop a job: what is embedded stays, what is leased ends with its batch."""
    _change(db, job_id, "cancel", "cancel_batches")


def failures(
    db: Database, collection: CollectionInfo, *, job_id: int | None = None, limit: int = 1_000
) -> list[FailureInfo]:
    with db.connection() as conn, conn.cursor(row_factory=class_row(FailureInfo)) as cursor:
        cursor.execute(
            _SQL["failures"],
            {"collection_id": collection.id, "job_id": job_id, "limit": limit},
        )
        return cursor.fetchall()


def retry_failures(
    db: Database, collection: CollectionInfo, *, budget: int, job_id: int | None = None
) -> int | None:
    """Try failed texts again in a job of their own; None where nothing failed."""
    with db.transaction() as conn:
        rows = conn.execute(
            _SQL["take_failed_texts"], {"collection_id": collection.id, "job_id": job_id}
        ).fetchall()
        texts = [(bytes(sha256), tokens) for sha256, tokens in rows if tokens is not None]
        if not texts:
            return None
        return requeue(conn, collection, "retry", texts, budget=budget)


def requeue(
    conn: Connection[Any],
    collection: CollectionInfo,
    kind: JobKind,
    texts: list[tuple[bytes, int]],
    *,
    budget: int,
) -> int:
    """A job of stored texts, complete as it is made."""
    job_id = create(conn, collection, kind)
    put_batches(conn, collection, job_id, texts, budget=budget)
    count(conn, job_id, Tally(chunks=len(texts)))
    loaded(conn, job_id)
    return job_id


def _standing(conn: Connection[Any], job_id: int) -> Open:
    row = conn.execute(_SQL["standing"], {"job_id": job_id}).fetchone()
    if row is None:
        raise UnknownJob(job=job_id)
    return standing(paused=row[0], cancelled=row[1])


def _change(db: Database, job_id: int, job: str, batches: str) -> None:
    with db.transaction() as conn:
        if conn.execute(_SQL[job], {"job_id": job_id}).fetchone() is None:
            raise UnknownJob(job=job_id)
        conn.execute(_SQL[batches], {"job_id": job_id})


def _status(row: Row) -> JobStatus:
    state = _state(row)
    rate = float(row["tokens_per_second"])
    running = state in ("running", "loading") and rate > 0
    ended = row["finished_at"] if state in ("done", "cancelled") else row["now"]
    end = max(ended or row["created_at"], row["loaded_at"] or row["created_at"])
    return JobStatus(
        id=row["id"],
        kind=row["kind"],
        collection=row["collection"],
        queue=row["queue"],
        state=state,
        documents=row["documents"],
        unchanged=row["unchanged"],
        rejected=row["rejected"],
        chunks=row["chunks"],
        reused=row["reused"],
        queued=int(row["queued"]),
        embedded=int(row["embedded"]),
        failed=int(row["failed"]),
        chunks_per_second=float(row["chunks_per_second"]),
        tokens_per_second=rate,
        eta_seconds=float(row["open_tokens"]) / rate if running else None,
        elapsed_seconds=max(0.0, (end - row["created_at"]).total_seconds()),
        created_at=row["created_at"],
        reason=row["waiting_reason"] if not row["leased_batches"] else None,
    )


def _state(row: Row) -> JobState:
    if row["cancelled_at"] is not None:
        return "cancelled"
    if row["loaded_at"] is not None and not row["open_batches"]:
        return "done"
    if row["paused_at"] is not None:
        return "paused"
    return "loading" if row["loaded_at"] is None else "running"
