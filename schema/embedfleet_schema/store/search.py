"""Search by vector over the collection's view, and the same as a statement for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, RawCursor, sql
from psycopg.rows import dict_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import BadVector
from embedfleet_schema.statements import load
from embedfleet_schema.store.collections import OPERATORS, check_there
from embedfleet_schema.store.filters import as_json, containment
from embedfleet_schema.types import CollectionInfo, Hit, Metric

_SQL = load("search")

# How many candidates an HNSW scan keeps: above pgvector's default of 40, within its limit of 1,000.
# Twice as many as are asked for find 95 of 100 neighbours; a filter keeps few of them.
EF_SEARCH, EF_SEARCH_LIMIT = 100, 1_000
EF_SEARCH_FILTERED = 400
EF_PER_HIT, EF_PER_HIT_FILTERED = 2, 10
MOST_FILTERED = EF_SEARCH_LIMIT // 2
# How far an iterative scan goes, in rows and, by pgvector's limit, in multiples of `work_mem`. With
# a filter it is an eighth of the table: beyond that it is quicker to compare all that matches, and
# exact. A million rows take about 200 MB.
SCAN_TUPLES, MOST_SCAN_TUPLES = 20_000, 1_000_000
SCAN_MEM_MULTIPLIER = 1_000

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
    """The `k` chunks nearest to `vector`, best first; fewer only where fewer match.

    Args:
        vector: shape (dimensions,), from the collection's own space.
        where: metadata that a hit must contain: {"lang": "en"}. A value that is no text also finds
            its text: {"year": 2024} the number and a cell of CSV.

    Raises:
        BadVector: wrong width, or not finite.
        BadFilter: `where` cannot be written as JSON.
        UndefinedTable: the collection was dropped, whatever has its name now.
    """
    with db.transaction() as conn:
        # Known since there is a connection. The vector is a parameter, so that the statement is the
        # same next time, and prepared: to plan it would take a quarter of the time of a search.
        parts = _parts(collection, _qualified(db, collection, sql.SQL("$1")), where, k)
        parts |= {"own": _own(collection)}
        asked = partial(_asked, conn, (_vector_text(collection, vector),))
        indexed = _set_scan(conn, db, collection, k, where)["indexed"]
        rows: Rows | None = None
        if where or not indexed:
            always = not indexed or _is_exact(k, where)
            rows = _compared(asked, collection, parts, where, always=always)
        if rows is None:
            rows = asked(_SQL["nearest"].format(**parts))
            if len(rows) < k:
                rows = _compared(asked, collection, parts, where, always=True) or []
    score = _SCORE[collection.space.metric]
    return [
        Hit(chunk, document, position, content, metadata, score(float(distance)))
        for chunk, document, position, content, metadata, distance in rows
    ]


def explain_sql(collection: CollectionInfo, *, k: int, where: Mapping[str, Any] | None) -> str:
    """What `search` runs, as one statement, with $1 for the query vector.

    It wants the schema of pgvector in the search path, as people have it; `search` names it.
    """
    query = sql.SQL("$1::{}").format(sql.Identifier(collection.space.storage))
    return _complete(collection, query, where, k).as_string(None)


def script(
    db: Database,
    collection: CollectionInfo,
    vector: NDArray[np.float32] | Sequence[float],
    *,
    k: int,
    where: Mapping[str, Any] | None,
) -> str:
    """The same with `vector` and its settings, as it can be given to psql."""
    text = sql.Literal(_vector_text(collection, vector))
    query = sql.SQL("{}::{}").format(text, sql.Identifier(collection.space.storage))
    statement = _complete(collection, query, where, k)
    with db.transaction() as conn:
        check_there(conn, collection)
        found = _set_scan(conn, db, collection, k, where)
        if where:
            parts = _parts(collection, _qualified(db, collection, text), where, k)
            asked = partial(_asked, conn, ())
            if _compared(asked, collection, parts, where, always=False) is not None:
                words = (_operator(collection), query)
                statement = _SQL["exact"].format(**_parts(collection, words, where, k))
    wanted: dict[str, sql.Composable] = {
        name: sql.SQL(value) for name, value in found.items() if "." in name
    }
    if db.vector_schema != "public":
        wanted["search_path"] = sql.Identifier(db.vector_schema)
    lines = [
        _SQL["setting"].format(name=sql.SQL(name), value=value) for name, value in wanted.items()
    ]
    settings = sql.SQL(";\n").join(lines)
    return _SQL["script"].format(settings=settings, statement=statement).as_string(None) + ";"


Rows = list[tuple[Any, ...]]


def _asked(conn: Connection[Any], values: Sequence[str], statement: sql.Composed) -> Rows:
    """The rows of a statement with PostgreSQL's own parameters: filters may have a percent sign."""
    with RawCursor(conn) as cursor:
        return cursor.execute(statement, values).fetchall()


def _compared(
    asked: Callable[[sql.Composed], Rows],
    collection: CollectionInfo,
    parts: Mapping[str, sql.Composable],
    where: Mapping[str, Any] | None,
    *,
    always: bool,
) -> Rows | None:
    """An exact search; None where it is left to the index, unless `always`."""
    statement = _SQL["compared"].format(
        **parts,
        collection_id=sql.Literal(collection.id),
        wanted=sql.Literal(as_json(where or {})),
        always=sql.Literal(always),
    )
    rows = asked(statement)
    if not rows[0][0]:
        return None
    return [row[1:] for row in rows if row[1] is not None]


def _set_scan(
    conn: Connection[Any],
    db: Database,
    collection: CollectionInfo,
    k: int,
    where: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The settings of this search, as they are set; and whether there is an index."""
    values = _effort(collection, k, where) | {"statement_timeout": db.statement_timeout}
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_SQL["scan_settings"], values).fetchone() or {}


def _effort(
    collection: CollectionInfo, k: int, where: Mapping[str, Any] | None
) -> dict[str, object]:
    """The values of `scan_settings`."""
    wanted = max(EF_SEARCH_FILTERED, EF_PER_HIT_FILTERED * k) if where else EF_PER_HIT * k
    return {
        "ef_search": str(min(max(EF_SEARCH, wanted), EF_SEARCH_LIMIT)),
        "tuples": None if where else SCAN_TUPLES,
        "most": MOST_SCAN_TUPLES,
        "table": f"embedfleet.{collection.vectors}",
        "memory": str(SCAN_MEM_MULTIPLIER),
    }


Words = tuple[sql.Composable, sql.Composable]


def _qualified(db: Database, collection: CollectionInfo, text: sql.Composable) -> Words:
    """Operator and query with pgvector's schema: no path of ours leads there."""
    schema = sql.Identifier(db.vector_schema)
    operator = sql.SQL("OPERATOR({}.{})").format(schema, _operator(collection))
    return operator, sql.SQL("{}::{}.{}").format(
        text, schema, sql.Identifier(collection.space.storage)
    )


def _operator(collection: CollectionInfo) -> sql.SQL:
    return sql.SQL(OPERATORS[collection.space.metric][0])


def _complete(
    collection: CollectionInfo, query: sql.Composable, where: Mapping[str, Any] | None, k: int
) -> sql.Composed:
    statement = _SQL["exact" if _is_exact(k, where) else "complete"]
    parts = _parts(collection, (_operator(collection), query), where, k)
    return statement.format(**parts)


def _is_exact(k: int, where: Mapping[str, Any] | None) -> bool:
    """Whether no index is asked: of many hits with a filter, a scan would overlook too many."""
    return bool(where) and k > MOST_FILTERED


def _parts(
    collection: CollectionInfo, words: Words, where: Mapping[str, Any] | None, k: int
) -> dict[str, sql.Composable]:
    """What the statements leave open."""
    operator, query = words
    wanted = _where(where)
    return {
        "operator": operator,
        "query": query,
        "view": sql.Identifier(collection.name),
        "own": sql.SQL(""),
        "where": sql.SQL("\n    WHERE {}").format(wanted) if wanted else sql.SQL(""),
        "and_where": sql.SQL("\n        AND {}").format(wanted) if wanted else sql.SQL(""),
        "k": sql.Literal(k),
    }


def _own(collection: CollectionInfo) -> sql.Composable:
    view, vectors = sql.Identifier(collection.name), sql.Identifier(collection.vectors)
    return sql.SQL("{}\n").format(_SQL["own"].format(view=view, vectors=vectors))


def _where(where: Mapping[str, Any] | None) -> sql.Composable | None:
    if not where:
        return None
    return containment(where)


def _vector_text(collection: CollectionInfo, vector: NDArray[np.float32] | Sequence[float]) -> str:
    values = np.asarray(vector, dtype=np.float32)
    space = collection.space
    if values.shape != (space.dimensions,):
        reason = f"its shape is {values.shape}, not ({space.dimensions},)"
        raise BadVector(space=space.name, reason=reason)
    if not np.isfinite(values).all():
        raise BadVector(space=space.name, reason="it is not finite")
    return "[" + ",".join(map(str, values.tolist())) + "]"
