"""The sweep: reclaim what dead workers left, and say where idle slots should be rung."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from embedfleet_schema import session
from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.errors import UnknownCollection
from embedfleet_schema.session import Holder
from embedfleet_schema.statements import load
from embedfleet_schema.store import (
    budgets,
    collections,
    counters,
    locks,
    query_requests,
    reconciliation,
    retention,
    workers,
)
from embedfleet_schema.store.settlement import Settlement, expired
from embedfleet_schema.types import CollectionInfo, Queue

_SQL = load("batches")

# Machines die for many reasons, so a batch gets one more chance. One that lost its worker twice is
# suspected: halved, or given up where it was a single text from the start. The last text that an
# embedder in parts left of many may have been in bad company: it gets a batch of its own.
CRASHES_TO_SUSPECT = 2
CRASH_CODE = "WORKER_CRASH"
CUT_OFF = "its worker runs, but lost the lease"


@dataclass(slots=True)
class Swept:
    """What one sweep did; `idle` counts slots per queue that have runnable work to take."""

    reclaimed: int = 0
    split: int = 0
    failed: int = 0
    idle: dict[Queue, int] = field(default_factory=dict)


def sweep(db: Database, *, reclaim: bool = True) -> Swept | None:
    """Sweep once, and take expired leases back unless told not to; None where another process is
    just doing it.
    """
    swept = Swept()
    left: list[Settlement] = []
    with db.transaction() as conn:
        mine = conn.execute(_SQL["try_sweep_lock"], {"space": LOCK_SPACE}).fetchone()
        if mine is None or not mine[0]:
            return None
        found = conn.execute(_SQL["expired"]).fetchall() if reclaim else []
        short_waits = locks.ShortWaits(db)
        for batch_id, collection_id in found:
            with suppress(psycopg.errors.LockNotAvailable, UnknownCollection):
                collection = collections.by_id(conn, collection_id)
                left += _reclaim(short_waits, swept, batch_id, collection)
        reconciliation.reconcile_some(db)
        _tidy(db)
        rows = conn.execute(_SQL["idle_slots"].format(alive=workers.ALIVE))
        swept.idle = {queue: int(idle) for queue, idle in rows if idle > 0}
    for batch in left:
        batch.prune(db)
    return swept


def sweeping(db: Database) -> Holder | None:
    """The session that keeps others from sweeping, while one does."""
    with db.transaction() as conn:
        return session.sweeping(conn, LOCK_SPACE)


def _tidy(db: Database) -> None:
    """Add up what changed, and remove what has finished. A collection that is just being dropped
    takes its counters along.
    """
    refusals = (psycopg.errors.LockNotAvailable, psycopg.errors.ForeignKeyViolation)
    short_waits = locks.ShortWaits(db)
    with suppress(*refusals):
        counters.fold(short_waits)
    with suppress(*refusals):
        retention.remove_batches(short_waits)
    with short_waits.transaction() as conn:
        query_requests.forget(conn)


def _reclaim(
    short_waits: locks.ShortWaits,
    swept: Swept,
    batch_id: int,
    collection: CollectionInfo,
) -> list[Settlement]:
    """One expired batch in its own transaction, its locks taken in the order of a commit; returns
    what is to be pruned.
    """
    with short_waits.transaction() as conn:
        batch = expired(conn, collection, batch_id)
        if batch is None:
            return []
        budgets.leave_unsettled(conn, batch_id)
        if batch.crashes is None:
            batch.release(reason=CUT_OFF)
        else:
            _charge(batch, batch.crashes, swept)
    swept.reclaimed += 1
    return [batch]


def _charge(batch: Settlement, crashes: int, swept: Swept) -> None:
    """Its worker is gone, which may be the fault of the batch."""
    batch.conn.execute(_SQL["charge_crash"], {"id": batch.id})
    reason = f"{crashes} workers stopped sending heartbeats while they had it"
    if crashes < CRASHES_TO_SUSPECT:
        batch.release(reason=reason)
    elif len(batch.text_ids) > 1:
        swept.split += batch.split(reason)
    else:
        batch.fail(batch.text_ids, code=CRASH_CODE, reason=reason)
        swept.failed += 1
