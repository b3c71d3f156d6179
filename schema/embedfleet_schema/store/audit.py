"""The audit: what is stored held against what should be, and its repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.rows import dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import counters, documents, locks
from embedfleet_schema.store.requeue import requeue
from embedfleet_schema.store.texts import judging
from embedfleet_schema.types import CollectionInfo

_SQL = load("audit")

# Vectors that are removed while everybody else waits.
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
    """Count in one snapshot; reads every chunk's hash, so large collections take a while."""
    with db.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(judging(_SQL["count"], collection), {"collection_id": collection.id})
        found = cursor.fetchone() or {}
    return Audit(**found, miscounted=counters.miscounted(db, collection))


def repair(
    db: Database, collection: CollectionInfo, *, budget: int, budget_usd: float | None = None
) -> int | None:
    """Queue what is missing, remove what is extra, take live what is whole.

    Returns:
        The id of the job that embeds the missing texts; None where none was missing.
    """
    values = {"collection_id": collection.id}
    _remove_extra(db, collection)
    with db.transaction() as conn:
        locks.repair_alone(conn, collection.id)
        rows = conn.execute(judging(_SQL["missing_texts"], collection), values).fetchall()
        job_id = requeue(conn, collection, "repair", rows, budget=budget, budget_usd=budget_usd)
    after = 0
    while page := _take_page_live(db, collection, after):
        after = page
    superseded = composed(_SQL["superseded_documents"], collection)
    with db.connection() as conn:
        left = [document for (document,) in conn.execute(superseded)]
    documents.prune(db, collection, left)
    counters.repair(db, collection)
    return job_id


def _remove_extra(db: Database, collection: CollectionInfo) -> None:
    """Looked for without a lock, because that takes long; removed a page at a time with it."""
    with db.connection() as conn:
        rows = conn.execute(composed(_SQL["extra"], collection)).fetchall()
    text_ids = [text_id for (text_id,) in rows]
    for start in range(0, len(text_ids), PAGE):
        with db.transaction() as conn:
            locks.own(conn, collection.id)
            documents.remove_unused(conn, collection, text_ids[start : start + PAGE])


def _take_page_live(db: Database, collection: CollectionInfo, after: int) -> int | None:
    with db.transaction() as conn:
        locks.share(conn, collection.id)
        page = composed(_SQL["lock_waiting_page"], collection)
        rows = conn.execute(page, {"after": after}).fetchall()
        documents.take_live(conn, collection, [(document, None) for (document,) in rows])
    return rows[-1][0] if rows else None
