"""Mirrors: which documents of a source a job came by, so that the others can go.

A mirror began at a time by the database's clock. What was stored since has a later time; of what
was unchanged, each job of the collection notes what it comes by while a mirror runs (`see`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.errors import SerializationFailure

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import documents, locks
from embedfleet_schema.store.documents import Mirror
from embedfleet_schema.store.incoming import Incoming
from embedfleet_schema.types import CollectionInfo, as_texts

_SQL = load("mirrors")
_RUNS = {"runs": _SQL["runs"]}
_IS_WATCHED = _SQL["is_watched"].format(**_RUNS)
_HORIZON = _SQL["horizon"].format(**_RUNS)
_FORGET = _SQL["forget_sightings"].format(**_RUNS)

# Documents that are looked at, and sightings that are forgotten, with one statement.
PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Scope:
    """Documents by their sources: those of `source`, and those whose source starts with `below`.

    Of these, the ones whose source is in `read`, or starts with one of `read_below`, can be gone.
    """

    source: str
    below: str | None
    read: Sequence[str]
    read_below: Sequence[str]

    def holds(self, source: str | None) -> bool:
        """Whether documents of a source are of this scope."""
        return source is not None and (
            source == self.source or (self.below is not None and source.startswith(self.below))
        )


class GoneDocument(NamedTuple):
    """One that a source no longer has."""

    key: str
    source: str


class Page(NamedTuple):
    """How many of some documents are of a scope, and which of those are gone."""

    documents: int
    gone: list[GoneDocument]


def moment(db: Database, collection: CollectionInfo) -> datetime:
    """The time at which a mirror begins. It waits for those who are storing something."""
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        row = conn.execute(_SQL["moment"]).fetchone()
        assert row is not None  # noqa: S101 - it has no condition
        began: datetime = row[0]
        return began


def begin(db: Database, collection: CollectionInfo, mirror: Mirror, *, again: bool) -> None:
    """From now on each job notes what it comes by. Done `again`, it may be there already."""
    values = {"collection_id": collection.id, "job_id": mirror.job_id, "since": mirror.since}
    with db.transaction() as conn:
        if conn.execute(_SQL["begin"], values).rowcount or not again:
            conn.execute(_SQL["begin_sightings"], values)


def see(conn: Connection[Any], collection: CollectionInfo, job_id: int, window: Incoming) -> None:
    """Note the unchanged documents of a window, if a mirror runs; the caller shares the collection.

    Raises:
        SerializationFailure: one of them was removed in between; prepare the window anew.
    """
    objects = [each.source for each in window.objects if each.is_kept]
    if not (window.kept or objects):
        return
    values = {"collection_id": collection.id, "job_id": job_id}
    if conn.execute(_IS_WATCHED, values).fetchone() != (True,):
        return
    keys = {"keys": as_texts(window.kept)}
    seen = conn.execute(composed(_SQL["see"], collection), values | keys).rowcount
    if seen < len(set(window.kept)):
        raise SerializationFailure("an unchanged document was removed in between")
    if objects:
        statement = composed(_SQL["see_objects"], collection)
        conn.execute(statement, values | {"sources": as_texts(objects)})


def among_others(db: Database, collection: CollectionInfo, mirror: Mirror) -> Mirror:
    """The mirror as it may delete while others run: as if it had begun with the first of them."""
    with db.transaction() as conn:
        values = {"collection_id": collection.id, "job_id": mirror.job_id}
        row = conn.execute(_HORIZON, values).fetchone()
    return mirror if row is None or row[0] is None else replace(mirror, since=row[0])


def pages(
    db: Database, collection: CollectionInfo, mirror: Mirror | None, scope: Scope
) -> Iterator[Page]:
    """All documents of the collection, a page at a time. Without a mirror, all of the scope that
    can be gone counts as gone.
    """
    unseen = _SQL["unseen" if mirror else "each"]
    statement = composed(_SQL["page"], collection, unseen=unseen)
    values: dict[str, Any] = {
        "collection_id": collection.id,
        "mirror": mirror and mirror.job_id,
        "since": mirror and mirror.since,
        "source": scope.source,
        "below": scope.below,
        "read": list(scope.read),
        "read_below": list(scope.read_below),
        "after": 0,
        "limit": PAGE,
    }
    while True:
        with db.transaction() as conn:
            row = conn.execute(statement, values).fetchone()
        assert row is not None  # noqa: S101 - it counts
        last, count, keys, sources = row
        if last is None:
            return
        yield Page(count, list(map(GoneDocument, keys, sources)))
        values["after"] = last


def remove(db: Database, collection: CollectionInfo, mirror: Mirror, keys: Sequence[str]) -> int:
    """Remove documents that are still gone; returns how many they were."""
    return len(documents.remove(db, collection, keys, mirror=mirror))


def doubt(db: Database, collection: CollectionInfo, mirror: Mirror) -> str | None:
    """Why a mirror that has read everything may not delete."""
    values = {"collection_id": collection.id, "job_id": mirror.job_id}
    with db.transaction() as conn:
        row = conn.execute(_SQL["doubt"], values).fetchone()
    if row is None or row[0]:
        return "the job was cancelled"
    return "the database lost what was seen: enqueue again" if row[1] else None


def finish(db: Database, mirror: Mirror, *, deleted: int, undeleted: str | None) -> None:
    """It has deleted so many; `undeleted` says why it kept others."""
    values = {"job_id": mirror.job_id, "deleted": deleted, "undeleted": undeleted}
    with db.transaction() as conn:
        conn.execute(_SQL["finish"], values)


def forget(db: Database, collection: CollectionInfo) -> None:
    """Remove what no mirror asks for any more, a page at a time."""
    values = {"collection_id": collection.id, "job_id": None, "limit": PAGE}
    forgotten = PAGE
    while forgotten == PAGE:
        with db.transaction() as conn:
            forgotten = conn.execute(_FORGET, values).rowcount
