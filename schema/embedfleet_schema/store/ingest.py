"""A producer's window into the tables, in one transaction: COPY, merge, pack what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from psycopg import Connection, Cursor
from psycopg.errors import SerializationFailure

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import (
    collections,
    counters,
    documents,
    jobs,
    locks,
    mirrors,
    objects,
    promotion,
    temp_tables,
    transitions,
    vector_rows,
)
from embedfleet_schema.store.awaiting import await_batches
from embedfleet_schema.store.incoming import Incoming, TextFailure, VerdictRow
from embedfleet_schema.store.registry import Registered, Registry
from embedfleet_schema.types import CollectionInfo, as_texts

_SQL = load("ingest")

_COPY_CHUNKS = _SQL["copy_chunks"].format(**temp_tables.TABLES)

# Of the chunks that a document keeps, as ranges of their numbers.
RANGES_KEPT = 64


class ExistingRow(NamedTuple):
    """What a collection holds under a key; `live` when readers see its newest version."""

    key: str
    digest: bytes
    live: bool
    job_id: int | None
    source: str | None


class StoredDocument(NamedTuple):
    """Its row, with the version that is new and the one that readers see."""

    id: int
    version: int
    live_version: int | None

    @property
    def has_left_draft(self) -> bool:
        """Whether it replaces a version that no reader saw."""
        return self.version > 1 and self.live_version != self.version - 1


# As `set_types` wants them, for the columns of chunks: JSON that is written already goes as text.
_CHUNK_TYPES = ("int8", "int4", "int4", "int4", "int4", "int8", "text")
# What PostgreSQL wants before it, the version of its binary format of jsonb.
_JSONB_VERSION = "\x01"


@dataclass(frozen=True, slots=True)
class Merged:
    """A stored window: its counts, how many batches it made, documents to be pruned, and how many
    of the vectors that came along are stored.
    """

    tally: jobs.Tally
    batches: int
    left_behind: list[int]
    vectors: int = 0


def existing_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> list[ExistingRow]:
    """What the collection holds under these keys."""
    values = {"keys": as_texts(keys)}
    with db.transaction() as conn:
        rows = conn.execute(composed(_SQL["known_digests"], collection), values)
        return [ExistingRow(*row) for row in rows]


def merge(
    db: Database,
    collection: CollectionInfo,
    job_id: int,
    window: Incoming,
    *,
    batch_tokens: int,
    interactive_tokens: int,
) -> Merged:
    """Store a window in one transaction; batches have at most `batch_tokens` tokens, and a job
    whose size decides its lane is bulk once it wants more than `interactive_tokens`.

    Raises:
        HashCollision: a text has the hash of another text of the collection.
        CollectionMoved: it has another name by now; nothing was stored.
        SerializationFailure: another producer took a key of it in between, or the template of the
            collection is another one now; prepare it anew.
    """
    with db.transaction() as conn:
        _hold(conn, collection, window)
        standing = transitions.standing(conn, job_id)
        if window.documents:
            temp_tables.create(conn)
        registry = Registry(conn, collection, standing.delivery)
        apart = window.failures.keys() | window.vectors.keys()
        texts = registry.register(window.texts(), window.waiting, apart, batch_tokens=batch_tokens)
        standing = standing.wanting(texts.wanted_tokens, interactive_tokens)
        line = standing.line(collection)
        moved, promoted = promotion.separate(conn, collection, texts.awaited, line.priority)
        failed = (texts.apart & window.failures.keys()) - window.vectors.keys()
        brought = sorted(texts.apart - failed, key=texts.ids.__getitem__)
        values: dict[str, Any] = {
            "collection_id": collection.id,
            "job_id": job_id,
            "replace": window.replace,
        }
        # Failures before documents, as commits lock them.
        _fail_texts(conn, values, {texts.ids[hash_]: window.failures[hash_] for hash_ in failed})
        vectors = _insert_vectors(db, conn, collection, window, texts.ids, brought)
        queued = [text_id for batch in texts.batches for text_id in batch.text_ids]
        retried = conn.execute(_SQL["retry_failures"], values | {"texts": queued}).rowcount
        keys = {"keys": as_texts(window.keys)}
        conn.execute(counters.counting_failures(_SQL["forget_rejections"]), values | keys)
        _reject(conn, values, window.verdicts)
        stored = _merge_documents(conn, collection, values, window)
        if window.outdated:
            outdated = {"keys": as_texts(window.outdated)}
            conn.execute(composed(_SQL["forget_digests"], collection), outdated)
        mirrors.see(conn, collection, job_id, window)
        objects.note(conn, collection, job_id, window)
        awaited = Counter(moved.get(each.text_id, each.batch_id) for each in texts.awaited)
        others = await_batches(conn, job_id, awaited)
        # A failure that is tried again counts, if the job is cancelled: there PostgreSQL is asked.
        lacking = () if retried or texts.awaited else texts.missing
        left_behind: list[int] = []
        if stored:
            written = _merge_chunks(conn, collection, window, texts.ids, stored)
            left_behind = _take_live(conn, collection, window, lacking, stored)
            new = sum(document.version == 1 for document in stored.values())
            counters.count_window(conn, collection, documents=new, chunks=written)
        if brought:
            # Also documents of others that waited for these texts.
            ids = [texts.ids[hash_] for hash_ in brought]
            left_behind += documents.go_live(conn, collection, ids)
            counters.count_window(conn, collection, vectors=vectors)
        tally = _tally(window, texts, sum(awaited[each] for each in others), failed=len(failed))
        jobs.count(conn, job_id, tally)
        if others:
            transitions.align(conn, list(others))
        # Last, and after rows of jobs as everywhere: who takes turns with these waits for the end.
        transitions.enqueue(conn, collection, standing, texts.batches)
        promotion.promote(conn, line, promoted)
    return Merged(tally, len(texts.batches), left_behind, vectors)


def rejected_sources(db: Database, collection: CollectionInfo) -> set[str]:
    """Where documents lie that were not accepted."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["rejected_sources"], {"collection_id": collection.id})
        return {source for (source,) in rows}


def forget_sources(
    db: Database, collection: CollectionInfo, job_id: int, sources: Sequence[str]
) -> None:
    """Forget the verdicts of jobs before this one on what lies in these sources."""
    values = {"collection_id": collection.id, "job_id": job_id, "sources": list(sources)}
    with db.transaction() as conn:
        locks.share(conn, collection.id)
        conn.execute(counters.counting_failures(_SQL["forget_sources"]), values)


def _hold(conn: Connection[Any], collection: CollectionInfo, window: Incoming) -> None:
    """Lock a collection for a window that was prepared for it as it is."""
    if window.versions:
        # Nobody stores or removes a document between this look at the versions and the commit.
        locks.own_to_write(conn, collection.id)
        _check_versions(conn, collection, window.versions)
    else:
        locks.share_to_write(conn, collection.id)
    collections.check_there(conn, collection)
    collections.check_template(conn, collection)


def _check_versions(
    conn: Connection[Any], collection: CollectionInfo, versions: Mapping[str, int]
) -> None:
    """Raise SerializationFailure unless these are the newest versions of their documents."""
    keys = {"keys": as_texts(versions)}
    found = conn.execute(composed(_SQL["newest_versions"], collection), keys)
    if dict(found.fetchall()) != versions:
        raise SerializationFailure("a document changed in between")


def _fail_texts(
    conn: Connection[Any], values: dict[str, Any], failures: Mapping[int, TextFailure]
) -> None:
    """A failure for each text, by its number, that no worker is to see."""
    if not failures:
        return
    conn.execute(
        counters.counting_failures(_SQL["fail_texts"]),
        values
        | {
            "texts": list(failures),
            "codes": [failure.code for failure in failures.values()],
            "reasons": [failure.reason for failure in failures.values()],
        },
    )


def _insert_vectors(
    db: Database,
    conn: Connection[Any],
    collection: CollectionInfo,
    window: Incoming,
    ids: Mapping[bytes, int],
    brought: Sequence[bytes],
) -> int:
    """The vectors that texts bring along, in the order of their numbers."""
    if not brought:
        return 0
    matrix = np.stack([window.vectors[hash_] for hash_ in brought])
    return vector_rows.insert(db, conn, collection, [ids[hash_] for hash_ in brought], matrix)


def _reject(conn: Connection[Any], values: dict[str, Any], verdicts: Sequence[VerdictRow]) -> None:
    if not verdicts:
        return
    latest = {verdict.key: verdict for verdict in verdicts}.values()
    conn.execute(
        counters.counting_failures(_SQL["reject"]),
        values
        | {
            "keys": [verdict.key for verdict in latest],
            "codes": [verdict.code for verdict in latest],
            "reasons": [verdict.reason for verdict in latest],
            "sources": [verdict.source for verdict in latest],
        },
    )


def _merge_documents(
    conn: Connection[Any], collection: CollectionInfo, values: dict[str, Any], window: Incoming
) -> dict[str, StoredDocument]:
    """The documents that are new or have a new version, by key; their chunks are still missing."""

    def execute(statement: str, **lists: str) -> Cursor[Any]:
        return conn.execute(composed(_SQL[statement], collection), values | lists)

    given = window.documents
    keys = as_texts(document.key for document in given)
    if given or window.sources:
        locked = [*(document.key for document in given), *window.sources]
        execute("lock_documents", keys=as_texts(locked))
    if window.sources:
        sources = as_texts(window.sources.values())
        execute("set_sources", keys=as_texts(window.sources), sources=sources)
    if not given:
        return {}
    digests = as_texts(f"\\x{document.digest.hex()}" for document in given)
    sources = as_texts(document.source for document in given)
    rows = execute("merge_documents", keys=keys, digests=digests, sources=sources).fetchall()
    if len(rows) < len(given):
        raise SerializationFailure("a key was taken by another source in between")
    return {key: StoredDocument(*row) for key, *row in rows}


def _merge_chunks(
    conn: Connection[Any],
    collection: CollectionInfo,
    window: Incoming,
    ids: Mapping[bytes, int],
    stored: Mapping[str, StoredDocument],
) -> int:
    """Returns how many were written: what a document shares with its former versions stays."""
    with conn.cursor() as cursor, cursor.copy(_COPY_CHUNKS) as copy:
        copy.set_types(_CHUNK_TYPES)
        for key, position, start, end, _, hash_, _, metadata, _ in window.chunks:
            document, version, _ = stored[key]
            row = (document, version, position, start, end, ids[hash_], _JSONB_VERSION + metadata)
            copy.write_row(row)
    former = [document.id for document in stored.values() if document.version > 1]
    if former:
        # Planned anew: the plan for a small window would not do for a large one.
        keep = composed(_SQL["keep_chunks"], collection, **temp_tables.TABLES)
        conn.execute(keep, {"documents": former, "most": RANGES_KEPT}, prepare=False)
    merge = composed(_SQL["merge_chunks"], collection, **temp_tables.TABLES)
    return conn.execute(merge).rowcount


def _take_live(
    conn: Connection[Any],
    collection: CollectionInfo,
    window: Incoming,
    awaited: Container[bytes],
    stored: Mapping[str, StoredDocument],
) -> list[int]:
    """Take live what is whole already; returns documents that have chunks nobody sees any more.

    A document with a text that is `awaited` cannot be whole, and is not looked at.
    """
    parts = {chunk.key for chunk in window.chunks if chunk.hash in awaited}
    whole = [(each.id, each.live_version) for key, each in stored.items() if key not in parts]
    replaced = documents.take_live(conn, collection, whole)
    return sorted({*replaced, *(each.id for each in stored.values() if each.has_left_draft)})


def _tally(window: Incoming, texts: Registered, awaited: int, *, failed: int) -> jobs.Tally:
    """`awaited` is how many texts wait in batches of other jobs."""
    distinct = {chunk.hash for chunk in window.chunks}
    return jobs.Tally(
        documents=len(window.documents),
        unchanged=window.unchanged,
        rejected=window.rejected,
        chunks=len(window.chunks),
        reused=len(distinct - set(texts.missing) - set(texts.apart)),
        failed=failed,
        awaited=awaited,
    )
