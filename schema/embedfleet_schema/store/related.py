"""Searches beside the plain one: words and meaning, documents like a document, duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.statements import load
from embedfleet_schema.store.filters import as_filter, refusals
from embedfleet_schema.store.search import Vector, own, vector_text
from embedfleet_schema.types import CollectionInfo, DuplicatePair, Hit, SimilarDocument

_SQL = load("search")

_REFUSED = (
    psycopg.errors.NoDataFound,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedObject,  # a language
    psycopg.errors.InvalidName,
)


def hybrid_search(
    db: Database,
    collection: CollectionInfo,
    question: str,
    vector: Vector,
    *,
    where: Mapping[str, Any] | None,
    options: Mapping[str, object],
) -> list[Hit]:
    """The chunks that words and vector find together; `options` are arguments of the function."""
    values = {
        **options,
        "question": question,
        "query": vector_text(collection, vector),
        "filter": as_filter(where) if where else None,
    }
    with refusals(where):
        return [Hit(*row) for row in _rows(db, collection, "hybrid_search", values)]


def similar(
    db: Database, collection: CollectionInfo, key: str, *, k: int, threshold: float | None
) -> list[SimilarDocument]:
    """Documents like a document, by the best pair of their chunks.

    Raises:
        UsageError: there is no such document, or it is not live.
    """
    values = {"key": key, "k": k, "threshold": threshold}
    return [SimilarDocument(*row) for row in _rows(db, collection, "similar", values)]


def duplicates(
    db: Database, collection: CollectionInfo, *, threshold: float, exact: bool | None
) -> list[DuplicatePair]:
    """Pairs of chunks that score at least `threshold`, by cluster.

    Raises:
        UsageError: there are many chunks and no index.
    """
    values = {"threshold": threshold, "exact": exact}
    return [DuplicatePair(*row) for row in _rows(db, collection, "duplicates", values)]


def _rows(
    db: Database, collection: CollectionInfo, name: str, values: Mapping[str, object]
) -> list[tuple[Any, ...]]:
    values = {**values, "collection": collection.name}
    call = _SQL[name].format(**{each: sql.Placeholder(each) for each in values})
    with db.transaction() as conn, _refusals():
        # They take no longer than their role may, as a search does.
        conn.execute(_SQL["timeout"], {"statement_timeout": db.statement_timeout})
        return conn.execute(sql.SQL("{}\n{}").format(own(collection), call), values).fetchall()


@contextmanager
def _refusals() -> Iterator[None]:
    """What the functions say of their arguments, in our words."""
    try:
        yield
    except _REFUSED as error:
        said = (error.diag.message_primary, error.diag.message_hint)
        raise UsageError(reason=". ".join(filter(None, said))) from error
