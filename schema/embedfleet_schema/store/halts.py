"""Pauses and cancellations, carried to the batches that wait.

What is paused is said in the row of the job or space, and that is all a pause has to commit. Then
the batches follow, a page at a time, so that workers of the same collection go on in between. Who
claims one before its turn puts it back; whatever is left, the next sweeps find.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import psycopg

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks

_SQL = load("halts")

# Batches that are put aside in one transaction, and those that are looked for at once.
PAGE = 5_000
BLOCK = 50_000


def carry_out(db: Database) -> None:
    """Put every waiting batch where its job and its space stand."""
    while carry_out_some(db) >= BLOCK:
        pass


def carry_out_some(db: Database) -> int:
    """The same with a block of them; returns how many were put aside."""
    with db.transaction() as conn:
        conn.execute(_SQL["by_index"])
        found: dict[int, list[int]] = defaultdict(list)
        for batch_id, collection_id in conn.execute(_SQL["misplaced"], {"limit": BLOCK}):
            found[collection_id].append(batch_id)
    moved = 0
    for collection_id, ids in found.items():
        # A collection that somebody owns for long is left to the next sweep.
        with suppress(psycopg.errors.LockNotAvailable):
            for start in range(0, len(ids), PAGE):
                moved += _align(db, collection_id, ids[start : start + PAGE])
    return moved


def _align(db: Database, collection_id: int, ids: list[int]) -> int:
    with db.transaction() as conn:
        locks.be_patient(conn)
        locks.share(conn, collection_id)
        return conn.execute(_SQL["align"], {"ids": ids}).rowcount
