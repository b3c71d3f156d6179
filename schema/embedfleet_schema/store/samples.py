"""Samples of what a collection holds: for evaluations, which need no more than a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.database import Database
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store.collections import check_there
from embedfleet_schema.store.filters import refusals
from embedfleet_schema.store.keys import can_be
from embedfleet_schema.types import CollectionInfo
from embedfleet_schema.unicode_forms import unicode_forms

_SQL = load("samples")

# Documents whose chunks are read with one statement.
PAGE = 500


class StoredChunk(NamedTuple):
    """A chunk as it is stored; `start` is None where it came ready-made."""

    start: int | None
    content: str
    of_markdown: bool


def live_keys(db: Database, collection: CollectionInfo, keys: Iterable[str]) -> dict[str, str]:
    """Those of the keys that readers find, and how the collection spells them.

    Raises:
        CollectionGone: it was dropped.
    """
    with db.transaction() as conn:
        check_there(conn, collection)
        asked = {key: unicode_forms(key) for key in keys if can_be(key)}
        every = [spelling for each in asked.values() for spelling in each]
        rows = conn.execute(composed(_SQL["live_keys"], collection), {"keys": every}).fetchall()
    live = {key for (key,) in rows}
    found = {key: next(filter(live.__contains__, forms), None) for key, forms in asked.items()}
    return {key: stored for key, stored in found.items() if stored is not None}


def drawn_keys(db: Database, collection: CollectionInfo, limit: int) -> list[str]:
    """The keys of live documents, drawn at random; the same ones each time.

    Raises:
        CollectionGone: it was dropped.
    """
    with db.transaction() as conn:
        check_there(conn, collection)
        rows = conn.execute(composed(_SQL["drawn_keys"], collection), {"limit": limit}).fetchall()
    return [key for (key,) in rows]


def documents(
    db: Database, collection: CollectionInfo, keys: list[str], *, offsets: bool = True
) -> Iterator[tuple[str, list[StoredChunk]]]:
    """Live documents by key, with their chunks in order; a page at a time.

    Without `offsets` no chunk has a `start`: the role that only searches may not read it.
    """
    start = _SQL["start" if offsets else "no_start"]
    statement = composed(_SQL["chunks"], collection, start=start)
    for first in range(0, len(keys), PAGE):
        with db.transaction() as conn:
            values = {"keys": keys[first : first + PAGE]}
            rows = conn.execute(statement, values).fetchall()
        for key, chunks in groupby(rows, key=lambda row: row[0]):
            yield key, [StoredChunk(*chunk) for _, *chunk in chunks]


def weight(db: Database, collection: CollectionInfo) -> tuple[int, int]:
    """How many distinct texts a collection has, and how many tokens those have together."""
    with db.transaction() as conn:
        row = conn.execute(composed(_SQL["weight"], collection)).fetchone()
    return row or (0, 0)


@dataclass(frozen=True, slots=True)
class Point:
    """A chunk on a map: where it stands, how it begins, a value of its metadata as JSON."""

    document: str
    position: int
    beginning: str
    value: Any


def points(
    db: Database, collection: CollectionInfo, *, field: str, limit: int, characters: int
) -> tuple[list[Point], NDArray[np.float32], int]:
    """Chunks that a search can find, drawn at random, their vectors, and how many there are.

    Returns:
        The chunks, float32 of shape (chunks, dimensions), and the number of all.

    Raises:
        CollectionGone: it was dropped.
        BadFilter: `field` is no name in the metadata, and no path.
    """
    values = {"field": field, "limit": limit, "characters": characters}
    with refusals({field: "..."}), db.transaction() as conn:
        check_there(conn, collection)
        total = conn.execute(composed(_SQL["searchable"], collection)).fetchone()
        cursor = conn.cursor(binary=True)
        rows = cursor.execute(composed(_SQL["points"], collection), values).fetchall()
    vectors = np.empty((len(rows), collection.space.dimensions), dtype=np.float32)
    for number, (*_, vector) in enumerate(rows):
        vectors[number] = vector if isinstance(vector, np.ndarray) else vector.to_numpy()
    return [Point(*row[:-1]) for row in rows], vectors, total[0] if total else 0


def may_drop(db: Database) -> bool:
    """Whether this user may drop collections."""
    with db.transaction() as conn:
        return conn.execute(_SQL["may_drop"]).fetchone() == (True,)


def scratch(db: Database, pattern: str) -> list[str]:
    """The names of collections that a comparison made for itself."""
    with db.transaction() as conn:
        return [name for (name,) in conn.execute(_SQL["scratch"], {"pattern": pattern})]
