"""The audit: what is stored, compared with what should be, and its repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg.rows import dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import counters, documents, locks
from embedfleet_schema.store.keyset import LEAST, ranges
from embedfleet_schema.store.requeue import Search, requeue
from embedfleet_schema.store.texts import judging
from embedfleet_schema.turns import ANY_TURN, Turn
from embedfleet_schema.types import CollectionInfo

_SQL = load("audit")

# Vectors that are removed while everybody else waits, and documents that are looked at then.
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Audit:
    """The texts of a collection by where they stand, and what is there without need.

    `texts` = `stored` + `waiting` + `failed` + `missing`; `missing` has neither a vector, a failure
    nor an open batch; `extra` counts vectors that no chunk uses; `miscounted` counters are not what
    the rows say. `job_id` is the repair's job.
    """

    documents: int
    waiting_documents: int
    chunks: int
    texts: int
    stored: int
    waiting: int
    failed: int
    missing: int
    extra: int
    miscounted: int
    job_id: int | None = None

    def repaired_by(self, job_id: int | None) -> Audit:
        return replace(self, job_id=job_id)

    @property
    def clean(self) -> bool:
        return self.missing == self.extra == self.miscounted == 0


def audit(db: Database, collection: CollectionInfo) -> Audit:
    """Count in one snapshot; reads the number of every text, chunk and vector."""
    with db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(judging(_SQL["count"], collection), {"collection_id": collection.id})
        found = cursor.fetchone() or {}
    return Audit(**found, miscounted=counters.miscounted(db, collection))


def repair(
    db: Database,
    collection: CollectionInfo,
    *,
    batch_tokens: int,
    budget_usd: float | None = None,
    turn: Turn = ANY_TURN,
) -> int | None:
    """Queue what is missing, remove what is extra, take live what is whole.

    All of it in pages: one that was cut off has done what it had come to, and the next does the
    rest.

    Returns:
        The id of the job that embeds the missing texts; None where none was missing.
    """
    following = composed(_SQL["next_text"], collection)
    for each in ranges(db, following):
        _remove_extra(db, collection, each)
    search = Search(
        following, judging(_SQL["missing_texts"], collection), {"collection_id": collection.id}
    )
    job_id = requeue(
        db,
        collection,
        "repair",
        search,
        batch_tokens=batch_tokens,
        budget_usd=budget_usd,
        turn=turn,
    )
    _take_live(db, collection)
    for each in ranges(db, composed(_SQL["next_document"], collection)):
        _tidy_documents(db, collection, each)
    counters.repair(db, collection)
    return job_id


def _tidy_documents(db: Database, collection: CollectionInfo, each: Mapping[str, int]) -> None:
    """Remove the chunks that documents left behind, and the rest of documents that go."""

    def found(statement: str) -> list[int]:
        with db.transaction() as conn:
            rows = conn.execute(composed(_SQL[statement], collection), each)
            return [document for (document,) in rows]

    documents.prune(db, collection, found("superseded_documents"))
    if half_removed := found("half_removed"):
        documents.remove_hidden(db, collection, half_removed)


def _remove_extra(db: Database, collection: CollectionInfo, each: Mapping[str, int]) -> None:
    """Looked for without a lock, because that takes long; removed a page at a time with it."""
    statement = composed(_SQL["extra"], collection)
    while True:
        with db.transaction() as conn:
            rows = conn.execute(statement, {**each, "limit": PAGE}).fetchall()
        if rows:
            with db.transaction() as conn:
                locks.own(conn, collection.id)
                documents.remove_unused(conn, collection, [text_id for (text_id,) in rows])
        if len(rows) < PAGE:
            return


def _take_live(db: Database, collection: CollectionInfo) -> None:
    """Documents that wait, by as many chunks as a page may have: those of one are looked at."""
    values = {"after": LEAST, "limit": PAGE, "most": documents.CHUNKS_AT_ONCE}
    while True:
        with db.transaction() as conn:
            rows = conn.execute(composed(_SQL["waiting_page"], collection), values).fetchall()
        if not rows:
            return
        ids = [document for (document,) in rows]
        with db.transaction() as conn:
            locks.share(conn, collection.id)
            locked = conn.execute(composed(_SQL["lock_waiting"], collection), {"documents": ids})
            documents.take_live(conn, collection, locked.fetchall())
        values["after"] = ids[-1]
