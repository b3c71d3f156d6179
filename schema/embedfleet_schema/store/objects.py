"""Objects of a store: which version of each is stored, so that it need not be read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store.incoming import Incoming
from embedfleet_schema.types import CollectionInfo, as_texts

_SQL = load("objects")


def unchanged(
    db: Database, collection: CollectionInfo, versions: Mapping[str, bytes], named: str | None
) -> dict[str, int]:
    """How many documents each of these objects has, if this version of it is stored, whole.

    `named` is the source of its documents where that is not the object.
    """
    values = {
        "collection_id": collection.id,
        "sources": as_texts(versions),
        "versions": list(versions.values()),
        "named": named,
    }
    with db.transaction() as conn:
        return dict(conn.execute(composed(_SQL["unchanged"], collection), values).fetchall())


def keys(db: Database, collection: CollectionInfo, sources: Sequence[str]) -> list[str]:
    """Those of the documents that came of some objects."""
    values = {"collection_id": collection.id, "sources": as_texts(sources)}
    with db.transaction() as conn:
        return [key for (key,) in conn.execute(composed(_SQL["keys"], collection), values)]


def note(conn: Connection[Any], collection: CollectionInfo, job_id: int, window: Incoming) -> None:
    """What a window has of objects: their documents, and which were read to their end."""
    values: dict[str, Any] = {"collection_id": collection.id, "job_id": job_id}
    if added := [(key, each) for each in window.objects for key in each.keys]:
        values |= {
            "keys": as_texts(key for key, _ in added),
            "objects": as_texts(each.source for _, each in added),
            "sources": as_texts(each.named or each.source for _, each in added),
        }
        conn.execute(composed(_SQL["add"], collection), values)
    if ended := [each for each in window.objects if each.version and not each.is_kept]:
        values |= {
            "objects": as_texts(each.source for each in ended),
            "versions": [each.version for each in ended],
            "documents": [each.documents for each in ended],
        }
        conn.execute(_SQL["finish"], values)


def forget(db: Database, collection: CollectionInfo) -> None:
    """Those whose documents are gone."""
    with db.transaction() as conn:
        conn.execute(composed(_SQL["forget"], collection), {"collection_id": collection.id})
