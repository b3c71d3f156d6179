"""The index on the vectors of a collection: its kinds, how one is built, replaced and searched.

What there is stands in PostgreSQL's catalog, and nowhere else: `embedfleet.vector_indexes` knows
the kinds again, whoever built them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import Connection, sql
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.statements import load
from embedfleet_schema.store import index_builds
from embedfleet_schema.types import (
    CollectionInfo,
    IndexMethod,
    IndexPolicy,
    IndexType,
    Metric,
    Space,
)

_SQL = load("vector_index")

# What pgvector 0.8 takes for each type, by either method.
MOST_DIMENSIONS: dict[IndexType, int] = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
_METRICS: dict[Metric, str] = {"cosine": "cosine", "l2": "l2", "inner_product": "ip"}
# pgvector's advice: a list for each thousand vectors, and fewer beyond a million.
PER_LIST, MANY_VECTORS = 1_000, 1_000_000
MOST_LISTS = 32_768


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index: on vectors as they are stored, as float16 (halfvec), or on their signs (bit)."""

    name: str
    valid: bool
    method: IndexMethod
    type: IndexType
    metric: str
    lists: int | None
    bytes: int

    def __str__(self) -> str:
        lists = f", {self.lists} lists" if self.lists else ""
        return f"{self.method} on {self.type}{lists}"


@dataclass(frozen=True, slots=True)
class Upkeep:
    """An index and its table as the last vacuum or analyze found it: `vectors` are rows, `dead` and
    `live` what was written since.
    """

    collection: str
    name: str
    valid: bool
    method: IndexMethod
    type: IndexType
    bytes: int
    vectors: int
    dead: int
    live: int


@dataclass(frozen=True, slots=True)
class IndexKind:
    """What an index is asked to be."""

    method: IndexMethod
    type: IndexType

    def name(self, collection: CollectionInfo) -> str:
        own = self.type == collection.space.storage
        return f"{collection.vectors}_{self.method}{'' if own else f'_{self.type}'}"


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What was set for a collection; None: what a search takes by itself."""

    ef_search: int | None = None
    probes: int | None = None
    policy: IndexPolicy = "manual"


def chosen(
    space: Space, method: IndexMethod | None = None, wanted: IndexType | None = None
) -> IndexKind:
    """The kind that is asked for; what is left open is chosen by the width of the vectors.

    As they are stored up to 2,000 dimensions (4,000 as halfvec), as halfvec up to 4,000, by their
    signs beyond.

    Raises:
        UsageError: vectors of this space cannot be indexed so; it says how they can.
    """
    method = method or "hnsw"
    possible: dict[IndexType, str] = {
        each: _obstacle(space, method, each) for each in MOST_DIMENSIONS
    }
    usable = [each for each, obstacle in possible.items() if not obstacle]
    type_ = wanted or (usable[0] if usable else space.storage)
    if possible[type_]:
        advice = f"Choose --type {' or '.join(usable)}"
        if not usable:
            advice = "Without an index, searches are exact"
        if not usable and method == "ivfflat":
            advice = "Try --method hnsw"
        reason = f"{space.name} cannot have an index of {method} on {type_}: {possible[type_]}"
        raise UsageError(reason=f"{reason}. {advice}.")
    return IndexKind(method, type_)


def _obstacle(space: Space, method: IndexMethod, wanted: IndexType) -> str:
    """Why not, or nothing."""
    if space.dimensions > MOST_DIMENSIONS[wanted]:
        most = MOST_DIMENSIONS[wanted]
        return f"pgvector takes up to {most:,} dimensions there, not {space.dimensions:,}"
    if wanted == "vector" and space.storage == "halfvec":
        return "its vectors are stored as halfvec"
    if wanted != space.storage and space.metric != "cosine" and not space.normalized:
        return f"its vectors have any length, which counts for the metric {space.metric}"
    if wanted == "bit" and method == "ivfflat":
        return "signs are indexed with hnsw only"
    return ""


def lists_for(vectors: int) -> int:
    """How many lists an IVFFlat index over so many vectors should have."""
    if vectors <= MANY_VECTORS:
        return max(1, vectors // PER_LIST)
    return min(MOST_LISTS, round(math.sqrt(vectors)))


def found(db: Database, collection: CollectionInfo) -> list[VectorIndex]:
    """All of them, the newest first, usable or not."""
    with db.transaction() as conn:
        return _found(conn, collection)


def in_use(db: Database, collection: CollectionInfo) -> VectorIndex | None:
    """The one that searches use."""
    return next((each for each in found(db, collection) if _serves(collection, each)), None)


def build(
    db: Database,
    collection: CollectionInfo,
    kind: IndexKind | None,
    *,
    vectors: int,
    memory_mb: int,
    workers: int | None = None,
) -> str | None:
    """Build an index without blocking writers; None where it is there already.

    Searches use it as soon as it is valid; then the former one of ours goes. What interrupted
    builds left is dropped first.

    Args:
        kind: None takes any that is there, or the usual one.
        vectors: about how many there are.
    """
    with index_builds.alone(db, collection, memory_mb=memory_mb, workers=workers) as conn:
        return build_alone(db, conn, collection, kind, vectors=vectors)


def build_alone(
    db: Database,
    conn: Connection[Any],
    collection: CollectionInfo,
    kind: IndexKind | None,
    *,
    vectors: int,
) -> str | None:
    """The same, by who is alone already."""
    there = _found(conn, collection)
    serving = [each for each in there if _serves(collection, each)]
    stale = _left_over(collection, there)
    wanted = kind or chosen(collection.space)
    if serving and (
        kind is None or (serving[0].method, serving[0].type) == (kind.method, kind.type)
    ):
        _drop(conn, stale + _ours(collection, serving[1:]))
        return None
    name = wanted.name(collection)
    # One of the same name served before a newer one did, or serves another metric.
    stale += [each.name for each in there if each.name == name and each.name not in stale]
    statement = _statement(db, collection, wanted, name, vectors)
    index_builds.create(conn, collection, statement, stale=stale, remains=[name])
    _drop(conn, [each for each in _ours(collection, serving) if each not in (name, *stale)])
    return name


def rebuild(
    db: Database, collection: CollectionInfo, *, memory_mb: int, workers: int | None = None
) -> str | None:
    """Build the index that is in use anew, beside writers and readers; None where there is none."""
    with index_builds.alone(db, collection, memory_mb=memory_mb, workers=workers) as conn:
        there = _found(conn, collection)
        serving = next((each for each in there if _serves(collection, each)), None)
        if serving is None:
            return None
        statement = _SQL["rebuild"].format(index=sql.Identifier(serving.name))
        # PostgreSQL's names for the new one, and for the former one when they have changed places.
        remains = [f"{serving.name}_ccnew", f"{serving.name}_ccold"]
        stale = _left_over(collection, there)
        index_builds.create(conn, collection, statement, stale=stale, remains=remains)
        return serving.name


def drop(db: Database, collection: CollectionInfo) -> list[str]:
    """Drop ours, usable or not; returns their names."""
    with index_builds.alone(db, collection, memory_mb=1) as conn:
        return drop_alone(conn, collection)


def drop_alone(conn: Connection[Any], collection: CollectionInfo) -> list[str]:
    """The same, by who is alone already."""
    return _drop(conn, _ours(collection, _found(conn, collection)))


def settings(db: Database, collection: CollectionInfo) -> SearchSettings:
    with db.transaction() as conn:
        rows = conn.cursor(row_factory=class_row(SearchSettings))
        given = {"collection_id": collection.id}
        return rows.execute(_SQL["settings"], given).fetchone() or SearchSettings()


def set_search(
    db: Database,
    collection: CollectionInfo,
    *,
    ef_search: int | None = None,
    probes: int | None = None,
) -> None:
    """Set what is named, for every search of the collection; only the owner may."""
    values = {"collection_id": collection.id, "ef_search": ef_search, "probes": probes}
    with db.transaction() as conn:
        conn.execute(_SQL["set_search"], values)


def set_policy(db: Database, collection: CollectionInfo, policy: IndexPolicy) -> None:
    """Set whether the index follows the loads of the collection."""
    with db.transaction() as conn:
        conn.execute(_SQL["set_policy"], {"collection_id": collection.id, "policy": policy})


def waiting(db: Database, collection: CollectionInfo) -> int:
    """How many texts workers are about to embed."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["standing"], {"collection_id": collection.id}).fetchone()
    return 0 if row is None else int(row[0])


def upkeep(db: Database) -> list[Upkeep]:
    """All indexes of all collections, by the statistics of their tables."""
    with db.transaction() as conn:
        return conn.cursor(row_factory=class_row(Upkeep)).execute(_SQL["upkeep"]).fetchall()


def _found(conn: Connection[Any], collection: CollectionInfo) -> list[VectorIndex]:
    rows = conn.cursor(row_factory=class_row(VectorIndex))
    return rows.execute(_SQL["found"], {"table": f"embedfleet.{collection.vectors}"}).fetchall()


def _serves(collection: CollectionInfo, index: VectorIndex) -> bool:
    return index.valid and index.metric in ("hamming", _METRICS[collection.space.metric])


def _left_over(collection: CollectionInfo, there: Sequence[VectorIndex]) -> list[str]:
    """What interrupted builds of ours left; one that a person builds just now is not valid, too."""
    return _ours(collection, [each for each in there if not each.valid])


def _ours(collection: CollectionInfo, some: Sequence[VectorIndex]) -> list[str]:
    return [each.name for each in some if each.name.startswith(f"{collection.vectors}_")]


def _drop(conn: Connection[Any], names: list[str]) -> list[str]:
    for name in names:
        index_builds.drop(conn, name)
    return names


def _statement(
    db: Database, collection: CollectionInfo, kind: IndexKind, name: str, vectors: int
) -> sql.Composed:
    space = collection.space
    key: Literal["as_stored", "as_bit", "as_halfvec", "as_unit_halfvec"] = "as_stored"
    if kind.type == "bit":
        key = "as_bit"
    elif kind.type != space.storage:
        key = "as_halfvec" if space.normalized else "as_unit_halfvec"
    metric = "hamming" if kind.type == "bit" else _METRICS[space.metric]
    schema = sql.Identifier(db.vector_schema)
    lists = _SQL["lists"].format(lists=sql.Literal(lists_for(vectors)))
    return _SQL["create"].format(
        index=sql.Identifier(name),
        vectors=sql.Identifier(collection.vectors),
        method=sql.Identifier(kind.method),
        key=_SQL[key].format(schema=schema, dimensions=sql.Literal(space.dimensions)),
        operators=sql.Identifier(db.vector_schema, f"{kind.type}_{metric}_ops"),
        options=lists if kind.method == "ivfflat" else sql.SQL(""),
    )
