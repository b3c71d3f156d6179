"""The lock of a collection, held to the end of a transaction.

Whoever adds chunks or vectors shares it; whoever removes them owns it. So nobody relies on a vector
that is about to be removed, and no vector outlives its last chunk.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from embedfleet_schema.database import LOCK_SPACE, REPAIR_LOCK_SPACE
from embedfleet_schema.statements import load

_SQL = load("locks")


def share(conn: Connection[Any], collection_id: int) -> None:
    conn.execute(_SQL["share"], {"space": LOCK_SPACE, "collection_id": collection_id})


def own(conn: Connection[Any], collection_id: int) -> None:
    conn.execute(_SQL["own"], {"space": LOCK_SPACE, "collection_id": collection_id})


def repair_alone(conn: Connection[Any], collection_id: int) -> None:
    """Make others wait who look for texts to be queued again, and nobody else."""
    values = {"space": REPAIR_LOCK_SPACE, "collection_id": collection_id}
    conn.execute(_SQL["repair_alone"], values)
