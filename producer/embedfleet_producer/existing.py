"""What is known under the keys of a window before it is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedfleet_schema.database import Database
from embedfleet_schema.store import ingest
from embedfleet_schema.types import CollectionInfo


class ExistingDocument(NamedTuple):
    """A document of the collection, or of the same call; `live` when readers see its newest
    version. `row` is only known of one of the same call.
    """

    digest: bytes
    live: bool
    job_id: int | None
    source: str | None = None
    row: int | None = None


def existing_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> dict[str, ExistingDocument]:
    """What the collection holds, by key."""
    rows = ingest.existing_documents(db, collection, keys)
    return {row.key: ExistingDocument(row.digest, row.live, row.job_id, row.source) for row in rows}
