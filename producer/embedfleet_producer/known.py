"""What is known under the keys of a window before it is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedfleet_schema.database import Database
from embedfleet_schema.store import ingest
from embedfleet_schema.types import CollectionInfo


class Known(NamedTuple):
    """A document of the collection, or of the same call; `live` when readers see its newest
    version. `row` is only known of one of the same call.
    """

    digest: bytes
    live: bool
    job_id: int | None
    source: str | None = None
    row: int | None = None


def known_documents(
    db: Database, collection: CollectionInfo, keys: Sequence[str]
) -> dict[str, Known]:
    """What the collection holds, by key."""
    rows = ingest.known_documents(db, collection, keys)
    return {row.key: Known(row.digest, row.live, row.job_id, row.source) for row in rows}
