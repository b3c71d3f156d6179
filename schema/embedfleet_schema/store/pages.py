"""What people look at a page at a time: the last hour, jobs, collections, documents by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import counters
from embedfleet_schema.store.keys import begins, can_be
from embedfleet_schema.store.search import own
from embedfleet_schema.types import CollectionInfo, Queue
from embedfleet_schema.unicode_forms import unicode_forms

_SQL = load("pages")

# As long as finished batches are kept.
MINUTES = 60
# The newest failures of a collection, which its codes are counted in.
FAILURES = 10_000


@dataclass(frozen=True, slots=True)
class Minute:
    """What was finished in a minute that began so many minutes `ago`, and ended a minute later:
    batches, texts that were `embedded` or `failed`, and the tokens of those batches.
    """

    ago: int
    batches: int = 0
    embedded: int = 0
    tokens: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class CollectionLine:
    """A collection in a list, with what its counters say."""

    id: int
    name: str
    model: str
    queue: Queue
    created_at: datetime
    documents: int
    live_documents: int
    chunks: int
    vectors: int
    failures: int


@dataclass(frozen=True, slots=True)
class FailureCode:
    """How many of the newest failures have this code, and how many of those were tried; the others
    would be refused again. `reason` is that of one of them.
    """

    code: str
    failures: int
    tried: int
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document with this key is, and whether readers see some version of it."""

    collection: str
    key: str
    searchable: bool


@dataclass(frozen=True, slots=True)
class LiveChunk:
    """A chunk as readers see it."""

    position: int
    content: str
    metadata: dict[str, Any]


def minutes(db: Database, *, job_id: int | None = None) -> list[Minute]:
    """The last hour of the fleet or of one job, minute by minute, the oldest first."""
    values = {"job_id": job_id, "minutes": MINUTES}
    with db.transaction() as conn, conn.cursor(row_factory=class_row(Minute)) as cursor:
        found = {each.ago: each for each in cursor.execute(_SQL["minutes"], values)}
    return [found.get(ago, Minute(ago)) for ago in reversed(range(MINUTES))]


def jobs(
    db: Database, *, before: int | None = None, collection_id: int | None = None, limit: int = 25
) -> list[int]:
    """The ids of a page of jobs, the newest first."""
    values = {"before": before, "collection_id": collection_id, "limit": limit}
    with db.transaction() as conn:
        return [job_id for (job_id,) in conn.execute(_SQL["jobs"], values)]


def collections(
    db: Database, *, part: str = "", after: str = "", limit: int = 50
) -> list[CollectionLine]:
    """A page of the collections whose names have `part` in them, by name."""
    if not can_be(part) or not can_be(after):
        return []
    return _lines(db, "collections", {"part": part, "after": after, "limit": limit})


def failing(db: Database, *, limit: int = 50) -> list[CollectionLine]:
    """The collections that have failures, the most first."""
    return _lines(db, "failing", {"limit": limit})


def codes(db: Database, collection: CollectionInfo) -> list[FailureCode]:
    """The codes of a collection's newest failures, the most frequent first."""
    values = {"collection_id": collection.id, "limit": FAILURES}
    with db.transaction() as conn, conn.cursor(row_factory=class_row(FailureCode)) as cursor:
        return cursor.execute(_SQL["codes"], values).fetchall()


def holding(
    db: Database, looked_in: Sequence[CollectionInfo], key: str, *, prefix: bool = False
) -> list[Place]:
    """Which of these collections have a document with this key in either spelling, or a verdict on
    one that was not accepted; with `prefix`, documents whose keys begin with it, a few of each.
    """
    if not looked_in or not can_be(key):
        return []
    values = {
        "keys": list(unicode_forms(key)),
        "limit": _ALIKE if prefix else len(unicode_forms(key)),
        "collections": [each.id for each in looked_in],
    }
    condition = begins(sql.Identifier("key"), key) if prefix else _SQL["is_key"]
    found: dict[tuple[str, str], Place] = {}
    with db.transaction() as conn:
        for first in range(0, len(looked_in), _AT_ONCE):
            some = looked_in[first : first + _AT_ONCE]
            parts = [
                composed(_SQL["holds"], each, name=sql.Literal(each.name), condition=condition)
                for each in some
            ]
            for place in _places(conn, sql.SQL(" UNION ALL ").join(parts), values):
                found[place.collection, place.key] = place
        if not prefix:
            for place in _places(conn, _SQL["rejected"], values):
                found.setdefault((place.collection, place.key), place)
    return list(found.values())


def chunks(
    db: Database, collection: CollectionInfo, key: str, *, limit: int = 20
) -> list[LiveChunk]:
    """The first chunks that readers see of a document, whose key is spelt as it is held.

    Raises:
        UndefinedTable: the collection was dropped, whatever has its name now.
    """
    read = _SQL["chunks"].format(view=sql.Identifier(collection.name))
    statement = sql.SQL("{}\n{}").format(own(collection), read)
    with db.transaction() as conn, conn.cursor(row_factory=class_row(LiveChunk)) as cursor:
        return cursor.execute(statement, {"key": key, "limit": limit}).fetchall()


# Collections that one statement looks in, and documents that it gives of each whose keys begin
# alike.
_AT_ONCE = 100
_ALIKE = 5


def _lines(db: Database, name: str, values: dict[str, Any]) -> list[CollectionLine]:
    statement = _SQL[name].format(of_collections=counters.OF_COLLECTIONS)
    with db.transaction() as conn, conn.cursor(row_factory=class_row(CollectionLine)) as cursor:
        return cursor.execute(statement, values).fetchall()


def _places(
    conn: Connection[Any], statement: sql.SQL | sql.Composed, values: dict[str, Any]
) -> list[Place]:
    with conn.cursor(row_factory=class_row(Place)) as cursor:
        return cursor.execute(statement, values).fetchall()
