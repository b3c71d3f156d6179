"""Failures: chunks that could not be embedded, and documents that were not accepted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("failures")


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
    source: str | None = None


def listed(
    db: Database, collection: CollectionInfo, *, job_id: int | None = None, limit: int = 1_000
) -> list[FailureInfo]:
    """The failures of a collection, or of one of its jobs; the newest first."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(FailureInfo)) as cursor:
        cursor.execute(
            composed(_SQL["list"], collection),
            {"collection_id": collection.id, "job_id": job_id, "limit": limit},
        )
        return cursor.fetchall()
