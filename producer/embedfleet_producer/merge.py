"""One window into the tables, in one transaction: COPY, merge, pack what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from embedfleet_producer.judge import Judged, printable
from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import documents, jobs, locks
from embedfleet_schema.types import CollectionInfo, Rejection

_SQL = load("ingest")

# The columns of `copy_chunks`, in its order.
ChunkRow = tuple[str, int, int | None, int | None, int, bytes, str, Jsonb]
_CHUNK_TYPES = ("text", "int4", "int4", "int4", "int4", "bytea", "text", "jsonb")


@dataclass(frozen=True, slots=True)
class Known:
    """What the collection holds under a key; `live` when readers see its newest version."""

    digest: bytes
    live: bool
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a text is not given to any worker: the model could not do it justice."""

    code: str
    reason: str


@dataclass(slots=True)
class Prepared:
    """A window ready to be stored.

    `keys` are all that were accepted. `refused` are the texts, by hash, that fail at once.
    `waiting` are the unchanged documents that readers do not see yet: what they miss is queued
    again, because the batch that had it may be cancelled.
    """

    keys: list[str] = field(default_factory=list)
    changed: list[Judged] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: dict[bytes, Refusal] = field(default_factory=dict)
    unchanged: int = 0
    rejected: list[Rejection] = field(default_factory=list)


def known_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> dict[str, Known]:
    values = {"collection_id": collection.id, "keys": list(keys)}
    with db.connection() as conn:
        rows = conn.execute(_SQL["known_digests"], values).fetchall()
    return {key: Known(bytes(digest), live, job_id) for key, digest, live, job_id in rows}


def merge(
    db: Database, collection: CollectionInfo, job_id: int, window: Prepared, *, budget: int
) -> tuple[jobs.Tally, int]:
    """Store a window; returns its counts and how many batches it made."""
    with db.transaction() as conn:
        locks.share(conn, collection.id)
        values = {"collection_id": collection.id, "job_id": job_id}
        if window.changed:
            _copy(conn, window)
        missing = _missing(conn, collection, window)
        # Failures before documents, as commits lock them.
        _forget_failures(conn, collection, missing, window)
        failed = _refuse(conn, collection, job_id, missing, window.refused)
        _reject(conn, values, window.rejected)
        if window.changed:
            keys = [judged.document.key for judged in window.changed]
            conn.execute(_SQL["lock_documents"], values | {"keys": keys})
            conn.execute(_SQL["merge_documents"], values)
            conn.execute(_SQL["merge_chunks"], values)
        batches = jobs.put_batches(conn, collection, job_id, missing.items(), budget=budget)
        left_behind = _take_live(conn, collection) if window.changed else []
        tally = _tally(window, missing, failed)
        jobs.count(conn, job_id, tally)
    documents.prune(db, collection, left_behind)
    return tally, batches


def _copy(conn: Connection[Any], window: Prepared) -> None:
    conn.execute(_SQL["create_incoming_document"])
    conn.execute(_SQL["create_incoming_chunk"])
    with conn.cursor() as cursor:
        with cursor.copy(_SQL["copy_documents"]) as copy:
            copy.set_types(("text", "bytea"))
            for judged in window.changed:
                copy.write_row((judged.document.key, judged.digest))
        with cursor.copy(_SQL["copy_chunks"]) as copy:
            copy.set_types(_CHUNK_TYPES)
            for row in window.chunks:
                copy.write_row(row)


def _missing(
    conn: Connection[Any], collection: CollectionInfo, window: Prepared
) -> dict[bytes, int]:
    """Tokens by hash of every distinct text that needs a vector."""
    vectors = sql.Identifier(collection.vectors)
    missing: dict[bytes, int] = {}
    if window.changed:
        rows: Iterable[tuple[bytes, int]] = conn.execute(
            _SQL["missing_incoming"].format(vectors=vectors)
        )
        missing.update((bytes(sha256), tokens) for sha256, tokens in rows)
    if window.waiting:
        rows = conn.execute(
            _SQL["missing_waiting"].format(vectors=vectors),
            {"collection_id": collection.id, "keys": window.waiting},
        )
        missing.update((bytes(sha256), tokens) for sha256, tokens in rows)
    return missing


def _forget_failures(
    conn: Connection[Any], collection: CollectionInfo, missing: dict[bytes, int], window: Prepared
) -> None:
    conn.execute(
        _SQL["forget_failures"],
        {"collection_id": collection.id, "hashes": list(missing), "keys": window.keys},
    )


def _refuse(
    conn: Connection[Any],
    collection: CollectionInfo,
    job_id: int,
    missing: dict[bytes, int],
    refused: Mapping[bytes, Refusal],
) -> int:
    """Take out of `missing` what is refused, with a failure each; returns how many that are."""
    found = sorted(missing.keys() & refused.keys())
    if not found:
        return 0
    for sha256 in found:
        del missing[sha256]
    conn.execute(
        _SQL["refuse_texts"],
        {
            "collection_id": collection.id,
            "job_id": job_id,
            "hashes": found,
            "codes": [refused[sha256].code for sha256 in found],
            "reasons": [refused[sha256].reason for sha256 in found],
        },
    )
    return len(found)


def _reject(conn: Connection[Any], values: dict[str, int], rejected: Sequence[Rejection]) -> None:
    if not rejected:
        return
    # Sorted, so that two producers rejecting the same keys cannot deadlock.
    latest = {printable(verdict.key): verdict for verdict in rejected}
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["reject"],
            [
                values | {"key": key, "code": verdict.code, "reason": printable(verdict.reason)}
                for key, verdict in sorted(latest.items())
            ],
        )


def _take_live(conn: Connection[Any], collection: CollectionInfo) -> list[int]:
    """Take live what is whole already; returns documents that have chunks nobody sees any more."""
    rows = conn.execute(_SQL["incoming_documents"]).fetchall()
    replaced = documents.take_live(conn, collection, [(row[0], row[2]) for row in rows])
    return sorted({*replaced, *(document for document, had_pending, _ in rows if had_pending)})


def _tally(window: Prepared, missing: dict[bytes, int], failed: int) -> jobs.Tally:
    texts = {row[5] for row in window.chunks}
    return jobs.Tally(
        documents=len(window.changed),
        unchanged=window.unchanged,
        rejected=len(window.rejected),
        chunks=len(window.chunks),
        reused=len(texts) - len(texts & missing.keys()) - failed,
        failed=failed,
    )
