"""Search by vector: one statement over the collection's view, which people can run themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import BadVector
from embedfleet_schema.statements import load
from embedfleet_schema.store.collections import OPERATORS
from embedfleet_schema.store.filters import containment
from embedfleet_schema.types import CollectionInfo, Hit, Metric

_SQL = load("search")

# How many candidates an HNSW scan keeps: above pgvector's default of 40, within its limit of 1,000.
EF_SEARCH, EF_SEARCH_LIMIT = 100, 1_000
# How far an iterative scan may go until a filter has its k rows; pgvector's default is 20,000.
MAX_SCAN_TUPLES = 1_000_000

_SCORE: dict[Metric, Callable[[float], float]] = {
    "cosine": lambda distance: 1.0 - distance,
    "l2": lambda distance: -distance,
    "inner_product": lambda distance: -distance,
}


def search(
    db: Database,
    collection: CollectionInfo,
    vector: NDArray[np.float32] | Sequence[float],
    *,
    k: int = 10,
    where: Mapping[str, Any] | None = None,
) -> list[Hit]:
    """The `k` chunks nearest to `vector`, best first.

    Args:
        vector: shape (dimensions,), from the collection's own space.
        where: metadata that a hit must contain: {"lang": "en"}. A value that is no text also finds
            its text: {"year": 2024} the number and a cell of CSV.

    Raises:
        BadVector: wrong width, or not finite.
        BadFilter: `where` cannot be written as JSON.
    """
    query = sql.SQL("{}::{}").format(
        sql.Literal(_vector_text(collection, vector)), sql.Identifier(collection.space.storage)
    )
    statement = _statement(collection, query, where, k)
    effort = str(min(max(EF_SEARCH, k), EF_SEARCH_LIMIT))
    with db.transaction() as conn:
        conn.execute(
            _SQL["scan_settings"],
            {"ef_search": effort, "max_scan_tuples": str(MAX_SCAN_TUPLES)},
        )
        rows = conn.execute(statement).fetchall()
    score = _SCORE[collection.space.metric]
    return [
        Hit(chunk, document, position, content, metadata, score(float(distance)))
        for chunk, document, position, content, metadata, distance in rows
    ]


def explain_sql(collection: CollectionInfo, *, k: int, where: Mapping[str, Any] | None) -> str:
    """The statement that `search` runs, with $1 for the query vector."""
    query = sql.SQL("$1")
    return _statement(collection, query, where, k).as_string(None)


def _statement(
    collection: CollectionInfo,
    query: sql.Composable,
    where: Mapping[str, Any] | None,
    k: int,
) -> sql.Composed:
    return _SQL["nearest"].format(
        operator=sql.SQL(OPERATORS[collection.space.metric][0]),
        query=query,
        view=sql.Identifier(collection.name),
        where=_where(where),
        k=sql.Literal(k),
    )


def _where(where: Mapping[str, Any] | None) -> sql.Composable:
    if not where:
        return sql.SQL("")
    return sql.SQL("\n    WHERE {}").format(containment(where))


def _vector_text(collection: CollectionInfo, vector: NDArray[np.float32] | Sequence[float]) -> str:
    values = np.asarray(vector, dtype=np.float32)
    space = collection.space
    if values.shape != (space.dimensions,):
        reason = f"it has shape {values.shape}, not ({space.dimensions},)"
        raise BadVector(space=space.name, reason=reason)
    if not np.isfinite(values).all():
        raise BadVector(space=space.name, reason="it is not finite")
    return "[" + ",".join(map(str, values.tolist())) + "]"
