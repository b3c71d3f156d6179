"""The documents of a collection as they are stored, in their newest versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.types import CollectionInfo

_SQL = load("stored_chunks")

# Documents of one page.
DOCUMENTS = 200


class StoredChunk(NamedTuple):
    """A chunk of the newest version of a document; `metadata` is JSON as PostgreSQL writes it. It
    has a `code` and a `reason` if it was refused before anyone tried it.
    """

    key: str
    digest: bytes
    version: int
    source: str | None
    position: int
    start: int | None
    end: int | None
    hash: bytes
    tokens: int
    content: str
    context: str | None
    metadata: str
    code: str | None
    reason: str | None


def last_of_page(db: Database, collection: CollectionInfo, after: str) -> str | None:
    """The key that the page behind a key ends with; None where there is no more."""
    values = {"after": after, "limit": DOCUMENTS}
    with db.transaction() as conn:
        row = conn.execute(composed(_SQL["last"], collection), values).fetchone()
    return None if row is None else row[0]


def page(db: Database, collection: CollectionInfo, after: str, last: str) -> list[StoredChunk]:
    """The chunks of documents behind one key, up to another, by key and position."""
    return _chunks(db, collection, "keys_between", {"after": after, "last": last})


def of_keys(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> list[StoredChunk]:
    """The chunks of some documents: each is whole, as one statement sees it."""
    return _chunks(db, collection, "keys_given", {"keys": list(keys)})


def _chunks(
    db: Database, collection: CollectionInfo, which: str, values: dict[str, object]
) -> list[StoredChunk]:
    statement = composed(_SQL["chunks_of"], collection, which=_SQL[which])
    with db.transaction() as conn:
        rows = conn.execute(statement, values | {"collection_id": collection.id})
        return [StoredChunk(*row) for row in rows]
