"""Searches beside the plain one: words and meaning, hits that differ, documents like a document,
duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.hits import DuplicatePair, Hit, SimilarDocument
from embedfleet_schema.store import word_index
from embedfleet_schema.store.filters import as_filter, refusals
from embedfleet_schema.store.search import Vector, called, vector_text
from embedfleet_schema.types import CollectionInfo

_REFUSED = (psycopg.errors.NoDataFound, psycopg.errors.ObjectNotInPrerequisiteState)


def hybrid_search(
    db: Database,
    collection: CollectionInfo,
    question: str,
    vector: Vector,
    *,
    where: Mapping[str, Any] | None,
    options: Mapping[str, object],
) -> list[Hit]:
    """The chunks that words and vector find together; `options` are arguments of the function.

    Raises:
        UsageError: PostgreSQL does not know the language.
    """
    values = {
        **options,
        "question": question,
        "query": vector_text(collection, vector),
        "filter": as_filter(where) if where else None,
    }
    try:
        with refusals(where):
            return [Hit(*row) for row in called(db, collection, "hybrid_search", values)]
    except word_index.UNKNOWN_LANGUAGE as error:
        raise word_index.unknown(db, options["language"]) from error


def diverse(
    db: Database,
    collection: CollectionInfo,
    vector: Vector,
    *,
    k: int,
    where: Mapping[str, Any] | None,
    weight: float,
    candidates: int,
) -> list[Hit]:
    """Hits near to the vector and not near to each other, by maximal marginal relevance."""
    values = {
        "query": vector_text(collection, vector),
        "k": k,
        "filter": as_filter(where) if where else None,
        "weight": weight,
        "candidates": candidates,
    }
    with refusals(where):
        return [Hit(*row) for row in called(db, collection, "diverse", values)]


def nearest_documents(
    db: Database, collection: CollectionInfo, vector: Vector, *, k: int
) -> list[Hit]:
    """The `k` documents nearest to a vector, each with its best chunk."""
    values = {"query": vector_text(collection, vector), "k": k}
    return [Hit(*row) for row in called(db, collection, "nearest_documents", values)]


def similar(
    db: Database, collection: CollectionInfo, key: str, *, k: int, threshold: float | None
) -> list[SimilarDocument]:
    """Documents like a document, by the best pair of their chunks.

    Raises:
        UsageError: there is no such document, or it is not live.
    """
    values = {"key": key, "k": k, "threshold": threshold}
    with _refusals():
        return [SimilarDocument(*row) for row in called(db, collection, "similar", values)]


def duplicates(
    db: Database, collection: CollectionInfo, *, threshold: float, exact: bool | None
) -> list[DuplicatePair]:
    """Pairs of chunks that score at least `threshold`, by cluster.

    Raises:
        UsageError: there are many chunks and no index.
    """
    values = {"threshold": threshold, "exact": exact}
    with _refusals():
        return [DuplicatePair(*row) for row in called(db, collection, "duplicates", values)]


@contextmanager
def _refusals() -> Iterator[None]:
    """What the functions say of their arguments, in our words."""
    try:
        yield
    except _REFUSED as error:
        said = (error.diag.message_primary, error.diag.message_hint)
        raise UsageError(reason=". ".join(filter(None, said))) from error
