"""Documents going live and going away, under the lock that keeps the two apart (`store.locks`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, counters, locks
from embedfleet_schema.store.filters import condition
from embedfleet_schema.store.keys import as_held, begins, can_be
from embedfleet_schema.types import CollectionInfo, as_bigints

_SQL = load("documents")

# Documents that are listed with one statement.
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document of a collection; `chunks` are those of its newest version, and `live` says whether
    readers see that one.
    """

    key: str
    source: str | None
    chunks: int
    live: bool
    updated_at: datetime


def listed(db: Database, collection: CollectionInfo, *, prefix: str = "") -> Iterator[DocumentInfo]:
    """The documents in the order of their keys, a page at a time: any number, in flat memory."""
    # No key is empty.
    after = ""
    while True:
        found = page(db, collection, prefix=prefix, after=after, limit=PAGE)
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1].key


def page(
    db: Database, collection: CollectionInfo, *, prefix: str = "", after: str = "", limit: int
) -> list[DocumentInfo]:
    """At most `limit` documents by key, after one that was seen."""
    if not can_be(prefix) or not can_be(after):
        return []
    statement = composed(_SQL["list"], collection, begins=begins(sql.Identifier("key"), prefix))
    values: dict[str, Any] = {"after": after, "limit": limit}
    with db.transaction() as conn, conn.cursor(row_factory=class_row(DocumentInfo)) as cursor:
        return cursor.execute(statement, values).fetchall()


# A page of deletions owns the collection: nobody commits to it meanwhile. It has so many documents
# with so many chunks at the most.
DELETED_AT_ONCE = 1_000
CHUNKS_AT_ONCE = 10_000
# Verdicts on documents concern no reader; to delete many of them takes long all the same.
VERDICTS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Mirror:
    """A job that removes what its source no longer has. What was stored or seen since it began
    stays.
    """

    job_id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents are meant: those that a job stored last, whose keys begin alike in any
    spelling, that have some metadata in a chunk; or all of that at once.

    Raises:
        UsageError: it means all of them.
    """

    job_id: int | None = None
    prefix: str | None = None
    where: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.job_id is None and not self.prefix and not self.where:
            reason = "say which documents: by job, start of the key, or metadata"
            raise UsageError(reason=f"{reason}; to delete all of them, drop the collection")
        if self.prefix is not None and not can_be(self.prefix):
            raise UsageError(reason="no key can start with it: a key is Unicode text without NUL")


def go_live(
    conn: Connection[Any], collection: CollectionInfo, text_ids: Sequence[int]
) -> list[int]:
    """Take live what waited only for `text_ids`; returns the documents that replaced a version.

    The lock comes first and the check is a statement of its own: of two commits that finish the
    two halves of a document, the later one sees the vectors of the earlier.
    """
    waiting = conn.execute(
        composed(_SQL["lock_waiting"], collection), {"texts": as_bigints(text_ids)}
    )
    return take_live(conn, collection, waiting.fetchall())


def take_live(
    conn: Connection[Any], collection: CollectionInfo, locked: Sequence[tuple[int, int | None]]
) -> list[int]:
    """The same for (id, live version) pairs whose rows the caller holds."""
    if not locked:
        return []
    values = {
        "collection_id": collection.id,
        "documents": [document for document, _ in locked],
        "new": [document for document, former in locked if former is None],
    }
    rows = conn.execute(composed(_SQL["go_live"], collection), values)
    live = {document for (document,) in rows}
    return [document for document, former in locked if former is not None and document in live]


def prune(db: Database, collection: CollectionInfo, replaced: Sequence[int]) -> None:
    """Remove the chunks that documents left behind, and the vectors that nobody else uses; a page
    at a time, since no reader sees them.
    """
    superseded = composed(_SQL["remove_superseded"], collection)
    values = {
        "collection_id": collection.id,
        "documents": list(replaced),
        "limit": CHUNKS_AT_ONCE,
    }
    full = bool(replaced)
    while full:
        with db.transaction() as conn:
            locks.own(conn, collection.id)
            rows = conn.execute(superseded, values).fetchall()
            remove_unused(conn, collection, {text_id for (text_id,) in rows})
        full = len(rows) == CHUNKS_AT_ONCE


def delete(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> list[str]:
    """Remove documents, each by its key in either spelling; returns the keys that were there."""
    gone: set[str] = set()
    for start in range(0, len(keys), DELETED_AT_ONCE):
        with db.transaction() as conn:
            held = as_held(conn, collection, keys[start : start + DELETED_AT_ONCE])
        gone.update(remove(db, collection, held))
    return sorted(gone)


def remove(
    db: Database,
    collection: CollectionInfo,
    keys: Sequence[str],
    *,
    job_id: int | None = None,
    mirror: Mirror | None = None,
) -> list[str]:
    """Remove documents with their chunks and unused vectors; returns the keys that were there.

    With `job_id`, only what that job stored last: a document and a verdict of one key may be of two
    jobs, and another job may store a document anew meanwhile. With `mirror`, only what that did not
    see; verdicts stay.

    Raises:
        CollectionGone, CollectionMoved: it was dropped, or has another name by now.
    """
    gone: set[str] = set()
    since = None if mirror is None else mirror.since
    for page, large in _pages(db, collection, keys):
        values = {
            "collection_id": collection.id,
            "keys": page,
            "job_id": job_id,
            "since": since,
            "mirror": None if mirror is None else mirror.job_id,
        }
        if large:
            gone.update(_remove_large(db, collection, values))
        with db.transaction() as conn:
            locks.own_to_write(conn, collection.id)
            collections.check_there(conn, collection)
            rows = conn.execute(_removing("remove_documents", collection), values).fetchall()
            if mirror is None:
                forget = counters.counting_failures(_SQL["remove_rejections"])
                gone.update(key for (key,) in conn.execute(forget, values))
            remove_unused(conn, collection, {text_id for _, text_id in rows if text_id})
        gone.update(key for key, _ in rows)
    return sorted(gone)


def _removing(statement: str, collection: CollectionInfo) -> sql.Composed:
    return composed(_SQL[statement], collection, unseen=load("mirrors")["unseen"])


def remove_hidden(db: Database, collection: CollectionInfo, ids: Sequence[int]) -> list[str]:
    """Remove documents that readers see nothing of any more, a page of chunks at a time; returns
    their keys.
    """
    prune(db, collection, ids)
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        values = {"collection_id": collection.id, "documents": list(ids)}
        rows = conn.execute(composed(_SQL["remove_hidden"], collection), values)
        return [key for (key,) in rows]


def _remove_large(db: Database, collection: CollectionInfo, values: Mapping[str, Any]) -> list[str]:
    """A document with more chunks than a page has: out of sight first, and then bit by bit. A
    removal that is cut off in between is ended by the next one, or by a repair.
    """
    with db.transaction() as conn:
        locks.own_to_write(conn, collection.id)
        collections.check_there(conn, collection)
        rows = conn.execute(_removing("hide_documents", collection), values).fetchall()
    return remove_hidden(db, collection, [document for (document,) in rows])


def _pages(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> Iterator[tuple[list[str], bool]]:
    """The keys in pages, by the chunks that their documents have; and whether a page is one large
    document.
    """
    with db.transaction() as conn:
        rows = conn.execute(composed(_SQL["weigh"], collection), {"keys": list(keys)})
        weights = {key: CHUNKS_AT_ONCE + 1 if hidden else chunks for key, hidden, chunks in rows}
    page, held = list[str](), 0
    for key in keys:
        weight = weights.get(key, 0)
        if weight > CHUNKS_AT_ONCE:
            yield [key], True
            continue
        if held + weight > CHUNKS_AT_ONCE or len(page) == DELETED_AT_ONCE:
            yield page, False
            page, held = [], 0
        page.append(key)
        held += weight
    if page:
        yield page, False


def delete_matching(db: Database, collection: CollectionInfo, selection: Selection) -> int:
    """Remove what a selection means, page by page; returns how many documents that were."""
    gone, after = 0, ""
    while keys := _matching(db, collection, selection, after):
        gone += len(remove(db, collection, keys, job_id=selection.job_id))
        after = keys[-1]
    return gone


def clear_rejections(db: Database, collection: CollectionInfo) -> int:
    """Forget the verdicts on documents that were not accepted; returns how many there were."""
    values = {"collection_id": collection.id, "limit": VERDICTS_AT_ONCE}
    cleared = 0
    while True:
        with db.transaction() as conn:
            row = conn.execute(
                counters.counting_failures(_SQL["clear_rejections"]), values
            ).fetchone()
        page = int(row[0]) if row else 0
        cleared += page
        if page < VERDICTS_AT_ONCE:
            return cleared


def _matching(
    db: Database, collection: CollectionInfo, selection: Selection, after: str
) -> list[str]:
    values = {
        "collection_id": collection.id,
        "job_id": selection.job_id,
        "filtered": bool(selection.where),
        "after": after,
        "limit": DELETED_AT_ONCE,
    }
    prefix = selection.prefix or ""
    with db.transaction() as conn:
        statement = composed(
            _SQL["matching"],
            collection,
            begins=begins(sql.Identifier("d", "key"), prefix),
            verdict_begins=begins(sql.Identifier("document_key"), prefix),
            and_where=_and_where(conn, collection, selection.where),
        )
        return [key for (key,) in conn.execute(statement, values)]


def _and_where(
    conn: Connection[Any], collection: CollectionInfo, where: Mapping[str, Any] | None
) -> sql.Composable:
    """The rest of the condition on a document, for a statement that has parameters."""
    if not where:
        return sql.SQL("")
    has_metadata = composed(_SQL["has_metadata"], collection, where=condition(conn, where))
    return sql.SQL("\n        {}").format(has_metadata)


def remove_unused(
    conn: Connection[Any], collection: CollectionInfo, text_ids: Collection[int]
) -> None:
    """Remove texts that no chunk has, with their vectors and failures; the caller owns the
    collection.
    """
    if not text_ids:
        return
    values = {"collection_id": collection.id, "texts": list(text_ids)}
    conn.execute(composed(_SQL["remove_unused_vectors"], collection), values)
    failures = composed(_SQL["remove_unused_failures"], collection, **counters.OF_FAILURES)
    conn.execute(failures, values)
    conn.execute(composed(_SQL["remove_unused_texts"], collection), values)
