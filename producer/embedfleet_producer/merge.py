"""One window into the tables, in one transaction: COPY, merge, pack what is missing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import SerializationFailure
from psycopg.types.json import Jsonb

from embedfleet_producer.judge import Judged, printable, storable_source
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
    """What the collection holds under a key; `live` when readers see its newest version.

    `row` is only known of a document of the same call.
    """

    digest: bytes
    live: bool
    job_id: int | None
    source: str | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a text is not given to any worker: the model could not do it justice."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A stored window: its counts, how many batches it made, and documents to be pruned."""

    tally: jobs.Tally
    batches: int
    left_behind: list[int]


@dataclass(slots=True)
class Prepared:
    """A window ready to be stored.

    `keys` are all that were accepted. `refused` are the texts, by hash, that fail at once.
    `waiting` are the unchanged documents that readers do not see yet: what they miss is queued
    again, because the batch that had it may be cancelled. Of what is `rejected`, all is
    counted, and what is `listed` is stored. `sources` are those of unchanged documents, by key,
    that are to be written. With `replace`, documents of other sources are taken over.
    """

    keys: list[str] = field(default_factory=list)
    changed: list[Judged] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: dict[bytes, Refusal] = field(default_factory=dict)
    unchanged: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    listed: list[Rejection] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    replace: bool = False


def known_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> dict[str, Known]:
    values = {"collection_id": collection.id, "keys": list(keys)}
    with db.connection() as conn:
        rows = conn.execute(_SQL["known_digests"], values).fetchall()
    return {key: Known(bytes(digest), *rest) for key, digest, *rest in rows}


def merge(
    db: Database, collection: CollectionInfo, job_id: int, window: Prepared, *, budget: int
) -> Merged:
    """Store a window in one transaction.

    Raises:
        SerializationFailure: another producer took a key of it in between; prepare it anew.
    """
    with db.transaction() as conn:
        locks.share(conn, collection.id)
        values: dict[str, Any] = {
            "collection_id": collection.id,
            "job_id": job_id,
            "replace": window.replace,
        }
        if window.changed:
            _copy(conn, window)
        missing = _missing(conn, collection, window)
        # Failures before documents, as commits lock them.
        failed = _refuse(conn, values, missing, window.refused)
        retried = conn.execute(_SQL["retry_failures"], values | {"hashes": list(missing)}).rowcount
        conn.execute(_SQL["forget_rejections"], values | {"keys": window.keys})
        _reject(conn, values, window.listed)
        keys = [judged.document.key for judged in window.changed]
        if keys or window.sources:
            conn.execute(_SQL["lock_documents"], values | {"keys": [*keys, *window.sources]})
        if window.sources:
            sources = {"keys": list(window.sources), "sources": list(window.sources.values())}
            conn.execute(_SQL["set_sources"], values | sources)
        if keys:
            merged = conn.execute(_SQL["merge_documents"], values)
            if merged.rowcount < len(keys):
                raise SerializationFailure("a key was taken by another source in between")
            conn.execute(_SQL["merge_chunks"], values)
        batches = jobs.put_batches(conn, collection, job_id, missing.items(), budget=budget)
        # A failure that is tried again counts, if the job is cancelled: there PostgreSQL is asked.
        awaited = missing.keys() if not retried else ()
        left_behind = _take_live(conn, collection, window, awaited) if window.changed else []
        tally = _tally(window, missing, failed)
        jobs.count(conn, job_id, tally)
    return Merged(tally, batches, left_behind)


def _copy(conn: Connection[Any], window: Prepared) -> None:
    conn.execute(_SQL["create_incoming_document"])
    conn.execute(_SQL["create_incoming_chunk"])
    with conn.cursor() as cursor:
        with cursor.copy(_SQL["copy_documents"]) as copy:
            copy.set_types(("text", "bytea", "text"))
            for judged in window.changed:
                document = judged.document
                copy.write_row((document.key, judged.digest, document.source))
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


def _refuse(
    conn: Connection[Any],
    values: dict[str, Any],
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
        values
        | {
            "hashes": found,
            "codes": [refused[sha256].code for sha256 in found],
            "reasons": [refused[sha256].reason for sha256 in found],
        },
    )
    return len(found)


def _reject(conn: Connection[Any], values: dict[str, Any], rejected: Sequence[Rejection]) -> None:
    if not rejected:
        return
    # Sorted, so that two producers rejecting the same keys cannot deadlock.
    latest = {printable(verdict.key): verdict for verdict in rejected}
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["reject"],
            [
                values
                | {
                    "key": key,
                    "code": verdict.code,
                    "reason": printable(verdict.reason),
                    "source": storable_source(verdict.source),
                }
                for key, verdict in sorted(latest.items())
            ],
        )


def _take_live(
    conn: Connection[Any],
    collection: CollectionInfo,
    window: Prepared,
    awaited: Container[bytes],
) -> list[int]:
    """Take live what is whole already; returns documents that have chunks nobody sees any more.

    A document with a text that is `awaited` cannot be whole, and is not looked at.
    """
    parts = {row[0] for row in window.chunks if row[5] in awaited}
    rows = conn.execute(_SQL["incoming_documents"]).fetchall()
    whole = [(document, live) for document, key, _, live in rows if key not in parts]
    replaced = documents.take_live(conn, collection, whole)
    return sorted({*replaced, *(document for document, _, had_pending, _ in rows if had_pending)})


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
