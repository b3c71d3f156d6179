"""Search by vector: `embedfleet.search` in the database, and the same as a statement for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import BadVector, ModelChanged
from embedfleet_schema.hits import Hit
from embedfleet_schema.statements import load
from embedfleet_schema.store.filters import as_filter, refusals
from embedfleet_schema.store.keys import can_be
from embedfleet_schema.types import CollectionInfo
from embedfleet_schema.unicode_forms import unicode_forms
from embedfleet_schema.vectors import as_text

_SQL = load("search")

# What the functions say of a vector of another space: see migration 0035.
ANOTHER_SPACE = "EF001"

Vector = NDArray[np.float32] | Sequence[float]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as readers see it."""

    id: int
    document: str
    position: int
    content: str
    metadata: dict[str, Any]


def search(
    db: Database,
    collection: CollectionInfo,
    vector: Vector,
    *,
    k: int = 10,
    where: Mapping[str, Any] | None = None,
    min_score: float | None = None,
) -> list[Hit]:
    """The `k` chunks nearest to `vector`, best first; fewer only where fewer match.

    Args:
        vector: shape (dimensions,), from the collection's own space.
        where: a filter, of the language in docs/sql-cookbook.md.
        min_score: leave out what scores less.

    Raises:
        BadVector: wrong width, or not finite.
        BadFilter: `where` is no filter.
        UndefinedTable: the collection was dropped, whatever has its name now.
    """
    values = {
        "query": vector_text(collection, vector),
        "k": k,
        "filter": as_filter(where) if where else None,
        "min_score": min_score,
    }
    with refusals(where):
        return [Hit(*row) for row in called(db, collection, "search", values)]


def chunks(db: Database, collection: CollectionInfo, keys: Sequence[str]) -> list[StoredChunk]:
    """What readers see of some documents, by document and position; each key in either spelling.

    Raises:
        UndefinedTable: the collection was dropped, whatever has its name now.
    """
    every = [form for key in filter(can_be, keys) for form in unicode_forms(key)]
    read = _SQL["chunks"].format(view=sql.Identifier(collection.name))
    with db.transaction() as conn:
        rows = conn.execute(sql.SQL("{}\n{}").format(own(collection), read), {"keys": every})
        return [StoredChunk(*row) for row in rows]


def called(
    db: Database, collection: CollectionInfo, name: str, values: Mapping[str, object]
) -> list[tuple[Any, ...]]:
    """What a function of the database that searches finds, called as a statement of search.sql.

    Raises:
        ModelChanged: what has the name of the collection has another model.
    """
    values = {**values, "collection": collection.name}
    call = _SQL[name].format(**{each: sql.Placeholder(each) for each in values})
    with db.transaction() as conn:
        # A search takes no longer than its role may, which other statements of ours do. Known since
        # there is a connection.
        space = collection.space.fingerprint.hex()
        conn.execute(_SQL["set"], {"statement_timeout": db.statement_timeout, "space": space})
        statement = sql.SQL("{}\n{}").format(own(collection), call)
        try:
            return conn.execute(statement, values).fetchall()
        except psycopg.DatabaseError as error:
            if error.sqlstate == ANOTHER_SPACE:
                raise ModelChanged(name=collection.name) from error
            raise


def own(collection: CollectionInfo) -> sql.Composed:
    """What precedes a statement that names only the view: nothing of a later collection is read."""
    return _SQL["own"].format(
        view=sql.Identifier(collection.name), vectors=sql.Identifier(collection.vectors)
    )


def statement(
    collection: CollectionInfo,
    *,
    k: int,
    where: Mapping[str, Any] | None,
    vector: Vector | None = None,
) -> str:
    """What `search` runs, as people write it, with $1 where no vector is given."""
    return (
        _SQL["statement"]
        .format(
            collection=sql.Literal(collection.name),
            query=sql.SQL("$1") if vector is None else sql.Literal(vector_text(collection, vector)),
            k=sql.Literal(k),
            options=sql.SQL(", {}").format(sql.Literal(as_filter(where))) if where else sql.SQL(""),
        )
        .as_string(None)
    )


def vector_text(collection: CollectionInfo, vector: Vector) -> str:
    """The vector as SQL takes it.

    Raises:
        BadVector: wrong width, or not finite.
    """
    values = np.asarray(vector, dtype=np.float32)
    space = collection.space
    if values.shape != (space.dimensions,):
        reason = f"its shape is {values.shape}, not ({space.dimensions},)"
        raise BadVector(space=space.name, reason=reason)
    if not np.isfinite(values).all():
        raise BadVector(space=space.name, reason="it is not finite")
    return as_text(values)
