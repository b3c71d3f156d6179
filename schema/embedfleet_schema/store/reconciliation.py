"""Reconciliation: pauses, resumptions and cancellations come to the batches that wait.

What is paused is said in the row of the job or space, and that is all that a pause or a resumption
has to commit. Then the batches follow, a page at a time, so that workers of the same collection go
on in between. Who claims one before its turn puts it back; whatever is left, the next sweeps find.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import suppress

import psycopg

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks, transitions

log = logging.getLogger(__name__)

_SQL = load("reconciliation")

# Batches that are moved in one transaction, and those that are looked for at once.
PAGE = 5_000
BLOCK = 50_000


def reconcile(db: Database) -> None:
    """Put every waiting batch where its job and its space stand.

    What was said is committed, so it is no failure of it where the database refuses, or is away.
    """
    try:
        while reconcile_some(db):
            pass
    except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnreachable) as error:
        log.warning("waiting batches are moved by the next sweep (%s)", type(error).__name__)


def reconcile_some(db: Database) -> bool:
    """The same with a block of them; returns whether any was moved.

    What others lock or own is left to them, or to the next sweep.
    """
    found: dict[int, list[int]] = defaultdict(list)
    with db.transaction() as conn:
        rows = conn.execute(_SQL["to_align"], {"limit": BLOCK}).fetchall()
    # In their order, as they lie in the table: each page of that is written once.
    for batch_id, collection_id in sorted(rows):
        found[collection_id].append(batch_id)
    short_waits = locks.ShortWaits(db)
    moved = 0
    for collection_id, ids in found.items():
        with suppress(psycopg.errors.LockNotAvailable):
            for start in range(0, len(ids), PAGE):
                moved += _align(short_waits, collection_id, ids[start : start + PAGE])
    return moved > 0


def _align(short_waits: locks.ShortWaits, collection_id: int, ids: list[int]) -> int:
    with short_waits.transaction() as conn:
        locks.share(conn, collection_id)
        return transitions.align(conn, ids)
