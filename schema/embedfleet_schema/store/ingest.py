"""A producer's window into the tables, in one transaction: COPY, merge, pack what is missing."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.errors import SerializationFailure
from psycopg.types.json import Jsonb

from embedfleet_schema.database import Database
from embedfleet_schema.errors import HashCollision
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import documents, jobs, locks
from embedfleet_schema.types import CollectionInfo

_SQL = load("ingest")


class KnownRow(NamedTuple):
    """What a collection holds under a key; `live` when readers see its newest version."""

    key: str
    digest: bytes
    live: bool
    job_id: int | None
    source: str | None


class DocumentRow(NamedTuple):
    """A new document, or a new version of one; the columns of its COPY."""

    key: str
    digest: bytes
    source: str | None


class ChunkRow(NamedTuple):
    """A chunk of such a document; the columns of its COPY."""

    key: str
    position: int
    start_offset: int | None
    end_offset: int | None
    tokens: int
    hash: UUID
    content: str
    metadata: Jsonb


# As `set_types` wants them, for the fields of those two.
_DOCUMENT_TYPES = ("text", "bytea", "text")
_CHUNK_TYPES = ("text", "int4", "int4", "int4", "int4", "uuid", "text", "jsonb")


class VerdictRow(NamedTuple):
    """The verdict on a document that was not accepted, in words that PostgreSQL can hold."""

    key: str
    code: str
    reason: str
    source: str | None


class Refusal(NamedTuple):
    """Why a text is not given to any worker: the model could not do it justice."""

    code: str
    reason: str


@dataclass(slots=True)
class Incoming:
    """A window as the tables take it.

    `keys` are all that were accepted. `refused` are the texts, by hash, that fail at once.
    `waiting` are the unchanged documents that readers do not see yet: what they miss is queued
    again, because the batch that had it may be cancelled. Of what was `rejected`, all is counted,
    and `verdicts` are stored. `sources` are those of unchanged documents, by key, that are to be
    written. With `replace`, documents of other sources are taken over.
    """

    keys: list[str] = field(default_factory=list)
    documents: list[DocumentRow] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    refused: dict[UUID, Refusal] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    unchanged: int = 0
    rejected: int = 0
    verdicts: list[VerdictRow] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    replace: bool = False

    def texts(self) -> set[UUID]:
        """The distinct texts of its chunks, by hash."""
        return {chunk.hash for chunk in self.chunks}


@dataclass(frozen=True, slots=True)
class Merged:
    """A stored window: its counts, how many batches it made, and documents to be pruned."""

    tally: jobs.Tally
    batches: int
    left_behind: list[int]


def known_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> list[KnownRow]:
    """What the collection holds under these keys."""
    values = {"keys": list(keys)}
    with db.connection() as conn:
        rows = conn.execute(composed(_SQL["known_digests"], collection), values)
        return [KnownRow(*row) for row in rows]


def merge(
    db: Database, collection: CollectionInfo, job_id: int, window: Incoming, *, budget: int
) -> Merged:
    """Store a window in one transaction; batches have at most `budget` tokens.

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
        if window.documents:
            _copy(conn, window)
            _register(conn, collection)
        missing = _missing(conn, collection, window)
        # Failures before documents, as commits lock them.
        failed = _refuse(conn, values, missing, window.refused)
        wanted = list(missing.values())
        texts = [text_id for text_id, _ in wanted]
        retried = conn.execute(_SQL["retry_failures"], values | {"texts": texts}).rowcount
        conn.execute(_SQL["forget_rejections"], values | {"keys": window.keys})
        _reject(conn, values, window.verdicts)
        _merge_documents(conn, collection, values, window)
        batches = jobs.put_batches(conn, collection, job_id, wanted, budget=budget)
        # A failure that is tried again counts, if the job is cancelled: there PostgreSQL is asked.
        awaited = missing.keys() if not retried else ()
        left_behind = _take_live(conn, collection, window, awaited) if window.documents else []
        tally = _tally(window, missing, failed)
        jobs.count(conn, job_id, tally)
    return Merged(tally, batches, left_behind)


def missing_waiting(
    conn: Connection[Any], collection: CollectionInfo, keys: Sequence[str]
) -> dict[UUID, tuple[int, int]]:
    """The number and the tokens, by hash, of the texts that documents still wait for."""
    statement = composed(_SQL["missing_waiting"], collection)
    rows = conn.execute(statement, {"collection_id": collection.id, "keys": list(keys)})
    return {hash_: (text_id, tokens) for hash_, text_id, tokens in rows}


def rejected_sources(db: Database, collection: CollectionInfo) -> set[str]:
    """Where documents lie that were not accepted."""
    with db.connection() as conn:
        rows = conn.execute(_SQL["rejected_sources"], {"collection_id": collection.id})
        return {source for (source,) in rows}


def forget_sources(
    db: Database, collection: CollectionInfo, job_id: int, sources: Sequence[str]
) -> None:
    """Forget the verdicts of jobs before this one on what lies in these sources."""
    values = {"collection_id": collection.id, "job_id": job_id, "sources": list(sources)}
    with db.transaction() as conn:
        locks.share(conn, collection.id)
        conn.execute(_SQL["forget_sources"], values)


def _copy(conn: Connection[Any], window: Incoming) -> None:
    conn.execute(_SQL["create_incoming"], prepare=False)
    with conn.cursor() as cursor:
        with cursor.copy(_SQL["copy_documents"]) as copy:
            copy.set_types(_DOCUMENT_TYPES)
            for document in window.documents:
                copy.write_row(document)
        with cursor.copy(_SQL["copy_chunks"]) as copy:
            copy.set_types(_CHUNK_TYPES)
            for chunk in window.chunks:
                copy.write_row(chunk)


def _register(conn: Connection[Any], collection: CollectionInfo) -> None:
    """Number the texts of the window.

    Raises:
        HashCollision: one of them has the hash of another text.
    """
    conn.execute(composed(_SQL["register"], collection))
    collisions = conn.execute(composed(_SQL["collisions"], collection)).fetchall()
    if collisions:
        raise HashCollision(keys=", ".join(repr(key) for (key,) in collisions))


def _missing(
    conn: Connection[Any], collection: CollectionInfo, window: Incoming
) -> dict[UUID, tuple[int, int]]:
    """The number and the tokens, by hash, of every distinct text that needs a vector."""
    missing: dict[UUID, tuple[int, int]] = {}
    if window.documents:
        rows = conn.execute(composed(_SQL["missing_incoming"], collection))
        missing.update((hash_, (text_id, tokens)) for hash_, text_id, tokens in rows)
    if window.waiting:
        missing |= missing_waiting(conn, collection, window.waiting)
    return missing


def _refuse(
    conn: Connection[Any],
    values: dict[str, Any],
    missing: dict[UUID, tuple[int, int]],
    refused: Mapping[UUID, Refusal],
) -> int:
    """Take out of `missing` what is refused, with a failure each; returns how many that are."""
    found = {missing.pop(hash_)[0]: refused[hash_] for hash_ in missing.keys() & refused.keys()}
    if not found:
        return 0
    conn.execute(
        _SQL["refuse_texts"],
        values
        | {
            "texts": list(found),
            "codes": [refusal.code for refusal in found.values()],
            "reasons": [refusal.reason for refusal in found.values()],
        },
    )
    return len(found)


def _reject(conn: Connection[Any], values: dict[str, Any], verdicts: Sequence[VerdictRow]) -> None:
    if not verdicts:
        return
    # Sorted, so that two producers rejecting the same keys cannot deadlock.
    latest = {verdict.key: verdict for verdict in verdicts}
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["reject"], [values | latest[key]._asdict() for key in sorted(latest)]
        )


def _merge_documents(
    conn: Connection[Any], collection: CollectionInfo, values: dict[str, Any], window: Incoming
) -> None:
    def execute(statement: str, **lists: list[str]) -> int:
        return conn.execute(composed(_SQL[statement], collection), {**values, **lists}).rowcount

    keys = [document.key for document in window.documents]
    if keys or window.sources:
        execute("lock_documents", keys=[*keys, *window.sources])
    if window.sources:
        sources = list(window.sources.values())
        execute("set_sources", keys=list(window.sources), sources=sources)
    if keys:
        if execute("merge_documents") < len(keys):
            raise SerializationFailure("a key was taken by another source in between")
        execute("merge_chunks")


def _take_live(
    conn: Connection[Any],
    collection: CollectionInfo,
    window: Incoming,
    awaited: Container[UUID],
) -> list[int]:
    """Take live what is whole already; returns documents that have chunks nobody sees any more.

    A document with a text that is `awaited` cannot be whole, and is not looked at.
    """
    parts = {chunk.key for chunk in window.chunks if chunk.hash in awaited}
    rows = conn.execute(_SQL["incoming_documents"]).fetchall()
    whole = [(document, live) for document, key, _, live in rows if key not in parts]
    replaced = documents.take_live(conn, collection, whole)
    return sorted({*replaced, *(document for document, _, had_pending, _ in rows if had_pending)})


def _tally(window: Incoming, missing: dict[UUID, tuple[int, int]], failed: int) -> jobs.Tally:
    texts = window.texts()
    return jobs.Tally(
        documents=len(window.documents),
        unchanged=window.unchanged,
        rejected=window.rejected,
        chunks=len(window.chunks),
        reused=len(texts) - len(texts & missing.keys()) - failed,
        failed=failed,
    )
