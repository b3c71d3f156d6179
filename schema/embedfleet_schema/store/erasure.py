"""Erasure: documents go with every trace of their texts, and each place is looked at afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import NotPermitted, PoolerInTheWay, UnsuitableDatabase
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections, documents, locks
from embedfleet_schema.store.keys import as_held
from embedfleet_schema.types import CollectionInfo

_SQL = load("erasure")

# What is looked at, in the order of the report. All of it is counted before and after.
OF_DOCUMENTS = ("documents", "chunks", "texts", "vectors", "failures")
OF_QUERIES = ("queries", "requests")
# The tables of these that are vacuumed beside those of the collection.
SHARED_TABLES = ("failure", "query_vector", "query_request")
# Texts that are removed in one transaction.
PAGE = 10_000
NOT_PERMITTED = "this user may not do that: erase as the owner of the tables"
STORED_AGAIN = "stored again meanwhile: erase again"


@dataclass(slots=True)
class Place:
    """A place that texts are in: how many rows were found, and how many are `left`."""

    name: str
    found: int | None = None
    left: int | None = None
    note: str = ""

    @property
    def is_clean(self) -> bool:
        return self.left == 0


@dataclass(frozen=True, slots=True)
class FiledBatch:
    """A provider batch that is not over and whose file at the provider holds a text."""

    id: int
    account: str | None
    input_file_id: str | None
    remote_batch_id: str | None


@dataclass(slots=True)
class Erasure:
    """What was erased. `shared` counts texts that stay because other documents have them."""

    keys: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    shared: int = 0
    filed: list[FiledBatch] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    not_vacuumed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Traces:
    """How the texts of the documents are found again when they are gone."""

    keys: list[str]
    ids: list[int]
    hashes: list[UUID]
    digests: list[bytes]

    def values(self, collection: CollectionInfo) -> dict[str, Any]:
        return {
            "collection_id": collection.id,
            "keys": self.keys,
            "texts": self.ids,
            "hashes": self.hashes,
            "digests": self.digests,
        }


def erase(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> Erasure:
    """Remove documents and each trace of their texts, vacuum the tables, and look again.

    What the user may not touch is said in the place's note, and the rest is done.
    """
    traces = _traces(db, collection, keys)
    values = traces.values(collection)
    found = Erasure()
    with db.transaction() as conn:
        rows = conn.execute(_of("filed", collection), values).fetchall()
        found.filed = [FiledBatch(*row) for row in rows]
        shared = conn.execute(_of("shared", collection), values).fetchall()
    kept = {text_id for (text_id,) in shared}
    gone = values | {"texts": [text_id for text_id in traces.ids if text_id not in kept]}
    places = {name: Place(name) for name in (*OF_DOCUMENTS, *OF_QUERIES)}
    for name, place in places.items():
        _count(db, collection, gone, name, place, after=False)
    found.keys = documents.delete(db, collection, traces.keys)
    _remove_unused(db, collection)
    for name in OF_QUERIES:
        _attempt(places[name], partial(_run, db, collection, gone, f"remove_{name}"))
    for name, place in places.items():
        _count(db, collection, gone, name, place, after=True)
        if place.left and name in OF_DOCUMENTS:
            place.note = STORED_AGAIN
    found.places = list(places.values())
    found.shared = len(kept)
    found.elsewhere = _elsewhere(db, collection, values)
    found.not_vacuumed = _vacuum(db, [*collection.tables, *SHARED_TABLES])
    return found


def _traces(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> _Traces:
    with db.transaction() as conn:
        held = as_held(conn, collection, keys)
        rows = conn.execute(_of("traces", collection), {"keys": held}).fetchall()
    ids, hashes, digests = zip(*rows, strict=True) if rows else ((), (), ())
    return _Traces(list(held), list(ids), list(hashes), list(digests))


def _count(
    db: Database,
    collection: CollectionInfo,
    values: dict[str, Any],
    name: str,
    place: Place,
    *,
    after: bool,
) -> None:
    def count() -> None:
        with db.transaction() as conn:
            row = conn.execute(_of(name, collection), values).fetchone()
        number = int(row[0]) if row else 0
        if after:
            place.left = number
        else:
            place.found = number

    _attempt(place, count)


def _attempt(place: Place, action: Callable[[], None]) -> None:
    """Do something in a place where this user may lack the right to it."""
    try:
        action()
    except NotPermitted:
        place.note = NOT_PERMITTED


def _run(db: Database, collection: CollectionInfo, values: dict[str, Any], name: str) -> None:
    with db.transaction() as conn:
        conn.execute(_of(name, collection), values)


def _remove_unused(db: Database, collection: CollectionInfo) -> None:
    """Texts of former versions whose removal was cut off: nobody knows of which document."""
    full = True
    while full:
        with db.transaction() as conn:
            locks.own(conn, collection.id)
            rows = conn.execute(_of("unused", collection), {"limit": PAGE}).fetchall()
            documents.remove_unused(conn, collection, {text_id for (text_id,) in rows})
        full = len(rows) == PAGE


def _elsewhere(db: Database, collection: CollectionInfo, values: dict[str, Any]) -> list[str]:
    """Other collections that have one of the texts, because somebody put it there, too."""
    found = []
    for other in collections.list_all(db):
        if other.id != collection.id:
            with db.transaction() as conn:
                row = conn.execute(_of("elsewhere", other), values).fetchone()
            if row and row[0]:
                found.append(other.name)
    return found


def _vacuum(db: Database, tables: Sequence[str]) -> list[str]:
    """Remove old rows from the files; returns the tables where that cannot be done from here."""
    try:
        with db.direct() as conn:
            return [table for table in tables if not _vacuumed(conn, table)]
    except (PoolerInTheWay, UnsuitableDatabase):
        return list(tables)


def _vacuumed(conn: Connection[Any], table: str) -> bool:
    """PostgreSQL skips a table with a warning where the user has no right to it."""
    warnings: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(table)

    conn.add_notice_handler(hear)
    try:
        conn.execute(_SQL["vacuum"].format(table=sql.Identifier("embedfleet", table)))
    except psycopg.errors.LockNotAvailable:
        # An index is being built, which may take hours.
        return False
    finally:
        conn.remove_notice_handler(hear)
    return not warnings


def _of(name: str, collection: CollectionInfo) -> sql.Composed:
    return composed(_SQL[name], collection)
