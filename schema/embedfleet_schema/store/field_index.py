"""Indexes on one field of the metadata, for filters with ranges; equality has an index of its own.

They hold what a filter compares (`embedfleet.filter_comparison`): numbers, or dates and times. A
value of another kind is in none of them, and keeps no row out. There is no column, and no row is
longer for it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import index_builds
from embedfleet_schema.store.filter_index import MEMORY_MB, WORKERS
from embedfleet_schema.store.filters import refusals
from embedfleet_schema.types import CollectionInfo

_SQL = load("field_index")

FieldKind = Literal["number", "date"]


def build(db: Database, collection: CollectionInfo, field: str, kind: FieldKind) -> str | None:
    """Build it without blocking writers; None where a usable one exists.

    One that a former, interrupted build left invalid is dropped first.

    Raises:
        BadFilter: `field` is no name in the metadata, and no path.
    """
    keys = keys_of(db, field)
    name = index_name(collection, keys, kind)
    with db.transaction() as conn:
        found = conn.execute(_SQL["found"], {"index": f"embedfleet.{name}"}).fetchone()
    if found == (True,):
        return None
    # As the compiler of filters writes it: else no filter would find the index.
    path = (sql.SQL("metadata"), *map(sql.Literal, keys))
    parts = {
        "index": sql.Identifier(name),
        "chunks": sql.Identifier(collection.chunks),
        "extracted": sql.SQL(" -> ").join(path),
    }
    if kind == "number":
        with db.refusals(), db.direct() as conn:
            conn.execute(_SQL["statistics"].format(**parts))
    create = _SQL[kind].format(**parts)
    stale = [name] if found else []
    with index_builds.alone(db, collection, memory_mb=MEMORY_MB, workers=WORKERS) as conn:
        index_builds.create(conn, collection, create, stale=stale, remains=[name])
    return name


def drop(db: Database, collection: CollectionInfo, field: str, kind: FieldKind) -> None:
    """Drop it; nothing happens where there is none."""
    name = index_name(collection, keys_of(db, field), kind)
    with index_builds.alone(db, collection, memory_mb=MEMORY_MB) as conn:
        index_builds.drop(conn, name)
        conn.execute(_SQL["drop_statistics"].format(index=sql.Identifier(name)))


def keys_of(db: Database, field: str) -> list[str]:
    """The keys that the name of a field, or a path, leads through.

    Raises:
        BadFilter: it is no name, and no path.
    """
    with refusals({field: "..."}), db.transaction() as conn:
        row = conn.execute(_SQL["keys"], {"field": field}).fetchone()
    return row[0] if row else []


def index_name(collection: CollectionInfo, keys: list[str], kind: FieldKind) -> str:
    """By the keys, which may have any characters and any length."""
    digest = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:12]
    return f"{collection.chunks}_{kind}_{digest}"
