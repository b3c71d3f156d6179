"""What has ended and is not needed any more: batches soon after they finished, jobs and provider
batches after weeks.
"""

from __future__ import annotations

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks

_SQL = load("retention")

# Batches that finished stay for an hour: for rates, for `plan`, which looks how fast the last ones
# went, and for whoever looks why one failed.
BATCHES_KEPT_S = 3_600.0
# What is removed in one transaction, and in one sweep: more than a fleet finishes until the next.
PAGE = 5_000
PAGES = 10

# Also for whoever reads the batches that are still there.
SPEED_OF = _SQL["speed_of"]


def remove_batches(short_waits: locks.ShortWaits, *, kept_s: float = BATCHES_KEPT_S) -> int:
    """Remove batches that finished so long ago, a page at a time; returns how many."""
    removed = 0
    for _ in range(PAGES):
        with short_waits.transaction() as conn:
            values = {"kept_s": kept_s, "limit": PAGE}
            rows = conn.execute(_SQL["finished"], values).fetchall()
            if rows:
                jobs = sorted({job_id for _, job_id in rows})
                speed = _SQL["remember_speed"].format(speed_of=SPEED_OF)
                conn.execute(speed, {"jobs": jobs})
                conn.execute(_SQL["remove_batches"], {"ids": [batch_id for batch_id, _ in rows]})
        removed += len(rows)
        if len(rows) < PAGE:
            break
    return removed


def remove_jobs(db: Database, *, days: int) -> int:
    """Remove jobs that ended more than so many days ago, a page at a time; returns how many. With
    0 days none is removed.
    """
    return _remove_ended(db, "remove_jobs", days)


def remove_provider_batches(db: Database, *, days: int) -> int:
    """The same with provider batches."""
    return _remove_ended(db, "remove_provider_batches", days)


def remove_shares(db: Database, *, days: int) -> int:
    """The same with what says how far tenants came that enqueued nothing since then."""
    return _remove_ended(db, "remove_shares", days)


def _remove_ended(db: Database, statement: str, days: int) -> int:
    removed = 0
    while days:
        with db.transaction() as conn:
            page = conn.execute(_SQL[statement], {"days": days, "limit": PAGE}).rowcount
        removed += page
        if page < PAGE:
            break
    return removed
