"""Texts whose vectors clients ask workers for: the side of who asks, and the side of who answers.

Both sides go through functions and statements of short transactions; nothing is held while a model
runs. SQL clients do the same by `CALL embedfleet.embed`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import CollectionGone, NotAnswered, QueryRefused
from embedfleet_schema.session import brief
from embedfleet_schema.statements import load
from embedfleet_schema.store import query_cache
from embedfleet_schema.types import CollectionInfo, Kind, Queue, Space
from embedfleet_schema.vectors import as_text

_SQL = load("query_requests")

# A worker answers within milliseconds; so long a first look waits.
FIRST_LOOK_S = 0.006
# How long a claimed text is left to its worker without a word from it.
LEASE_S = 3.0
# So long a worker without the model leaves a text to those that have it.
PATIENCE_S = 0.4
# Texts that one worker embeds at once.
MOST = 32
# So much of a query is quoted to who asked.
SHOWN = 60

_REFUSALS = (
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ConfigurationLimitExceeded,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.NoDataFound,
    # On a replica, where unlogged tables are not there.
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.FeatureNotSupported,
)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A text that this worker has claimed."""

    id: UUID
    space_id: int
    queue: Queue
    text: str
    kind: Kind


def vector_of(db: Database, collection: CollectionInfo, text: str) -> NDArray[np.float32]:
    """The vector of a query, float32 of shape (dimensions,), from the cache or from a worker.

    Raises:
        QueryRefused: a worker could not embed it.
        NotAnswered: no worker serves the model, or none answered; or the role asks too much.
        NotPermitted: the role may not ask.
        CollectionGone, UndefinedTable: it was dropped, whatever has its name now.
    """
    try:
        with db.transaction() as conn:
            asked = {"collection": collection.name, "vectors": collection.vectors, "text": text}
            row = conn.execute(_SQL["ask"], asked).fetchone()
        if row is None:
            raise CollectionGone(name=collection.name)
        request, vector = row
        pause_s = FIRST_LOOK_S
        while vector is None:
            time.sleep(pause_s)
            with db.transaction() as conn:
                row = conn.execute(_SQL["answer"], {"id": request}).fetchone()
            assert row is not None  # noqa: S101 - a function gives a row or raises
            vector, reason, refused, pause_s = row
            if refused:
                raise QueryRefused(query=text[:SHOWN], reason=reason)
            if reason is not None:
                raise NotAnswered(reason=reason)
    except _REFUSALS as error:
        raise NotAnswered(reason=brief(error)) from error
    return np.array(vector, dtype=np.float32)


def listen(conn: Connection[Any]) -> None:
    """Have a session, in autocommit mode, hear of requests."""
    conn.execute(_SQL["listen"])


def claim(
    conn: Connection[Any],
    queues: Sequence[Queue],
    *,
    loaded: Sequence[Space],
    excluding: Sequence[int],
) -> list[QueryRequest]:
    """Take texts to embed, and those of models that are not `loaded` here a little later.

    Args:
        excluding: ids of spaces that this worker cannot embed.
    """
    values = {
        "queues": list(queues),
        "loaded": [space.fingerprint for space in loaded],
        "excluding": list(excluding),
        "lease_s": LEASE_S,
        "patience_s": PATIENCE_S,
        "most": MOST,
    }
    with conn.cursor(row_factory=class_row(QueryRequest)) as cursor:
        return cursor.execute(_SQL["claim"], values).fetchall()


def extend(conn: Connection[Any], requests: Sequence[QueryRequest]) -> None:
    """Keep what was claimed for a while longer."""
    conn.execute(_SQL["extend"], {"ids": [each.id for each in requests], "lease_s": LEASE_S})


def space_of(conn: Connection[Any], space_id: int) -> Space:
    with conn.cursor(row_factory=class_row(Space)) as cursor:
        found = cursor.execute(_SQL["space"], {"space_id": space_id}).fetchone()
    assert found is not None  # noqa: S101 - no space is ever removed
    return found


def give(
    conn: Connection[Any],
    requests: Sequence[QueryRequest],
    vectors: NDArray[np.float32],
    tokens: Sequence[int],
) -> None:
    """Answer, and remember the vectors of queries for who asks next."""
    answers = [
        {"id": request.id, "vector": as_text(vector), "tokens": count}
        for request, vector, count in zip(requests, vectors, tokens, strict=True)
    ]
    with conn.cursor() as cursor:
        cursor.executemany(_SQL["give"], answers)
    queries = [
        (request.space_id, request.text, vector)
        for request, vector in zip(requests, vectors, strict=True)
        if request.kind == "query"
    ]
    query_cache.keep_all(conn, queries)


def refuse(conn: Connection[Any], request: QueryRequest, reason: str) -> None:
    """Say why there is no vector."""
    conn.execute(_SQL["refuse"], {"id": request.id, "reason": reason})


def give_back(conn: Connection[Any], requests: Sequence[QueryRequest], problem: str) -> None:
    """Leave texts to other workers."""
    values = {"ids": [each.id for each in requests], "problem": problem}
    conn.execute(_SQL["give_back"], values)


def forget(conn: Connection[Any]) -> None:
    """Remove what nobody waits for any more."""
    conn.execute(_SQL["forget"])
