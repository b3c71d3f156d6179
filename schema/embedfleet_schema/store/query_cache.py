"""Vectors of queries that were paid for once: a cache that every client of a database shares."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.vectors import as_text

_SQL = load("query_cache")

# Per space; 100,000 vectors of 1,536 dimensions take about 600 MB.
KEPT = 100_000


def find(db: Database, space_id: int, text: str) -> NDArray[np.float32] | None:
    """The vector of a query, float32 of shape (n,), if it is known.

    Whoever may search may write here: it is finite by its type, and may be of any length.
    """
    values = _address(space_id, text)
    with db.transaction() as conn:
        row = conn.execute(_SQL["find"], values).fetchone()
        if row is None:
            return None
        embedding, stale = row
        if stale:
            conn.execute(_SQL["touch"], values)
    return np.array(embedding, dtype=np.float32)


def remember(db: Database, space_id: int, text: str, vector: NDArray[np.float32]) -> None:
    """Keep a vector; the text itself is not kept."""
    with db.transaction() as conn:
        keep(conn, space_id, text, vector)


def keep(conn: Connection[Any], space_id: int, text: str, vector: NDArray[np.float32]) -> None:
    """`remember`, in a transaction of the caller's."""
    conn.execute(_SQL["remember"], _address(space_id, text) | {"embedding": as_text(vector)})


def keep_all(
    conn: Connection[Any], vectors: Sequence[tuple[int, str, NDArray[np.float32]]]
) -> None:
    """`keep` for vectors of some spaces and texts, in few steps."""
    # In one order, or two transactions with the same texts would wait for each other.
    rows = [
        _address(space_id, text) | {"embedding": as_text(vector)}
        for space_id, text, vector in sorted(vectors, key=itemgetter(0, 1))
    ]
    with conn.cursor() as cursor:
        cursor.executemany(_SQL["remember"], rows)


def forget(db: Database, *, kept: int = KEPT) -> int:
    """Remove what is old or too much; returns how many."""
    with db.transaction() as conn:
        return conn.execute(_SQL["forget"], {"kept": kept}).rowcount


def _address(space_id: int, text: str) -> dict[str, object]:
    return {"space_id": space_id, "sha256": hashlib.sha256(text.encode()).digest()}
