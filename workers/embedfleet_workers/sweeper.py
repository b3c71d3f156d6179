"""The sweeper thread: reclaims expired leases and rings for idle slots. One acts at a time."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.broker import Doorbell
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import SchemaNewer
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store import query_cache, retention
from embedfleet_schema.store.sweep import sweep, sweeping
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)

# Between two times that a worker clears the cache of queries, and removes jobs that ended long ago.
TIDY_S = 3_600.0
# Between two sweeps while rings are not heard: then slots stand idle, all over the fleet.
RING_AGAIN_S = 1.5
# Nobody sweeps for so long: whoever may connect can hold the lock, and leases would never end.
STUCK_S = 60.0


class Sweeper(threading.Thread):
    """Sweeps on a timer for as long as the worker runs."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        *,
        every_s: float,
        retention_days: int = 0,
        newer_tables: Callable[[SchemaNewer], object] = lambda _: None,
    ) -> None:
        """`newer_tables` is told where the tables are newer than this program."""
        super().__init__(name="embedfleet-sweeper", daemon=True)
        self._db = db
        self._doorbell = doorbell
        self._every_s = every_s
        self._newer_tables = newer_tables
        self._retention_days = retention_days
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._was_away = self._unheard = False
        self._in_the_way: tuple[int, float] | None = None
        self._next_tidying = time.monotonic() + TIDY_S

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._sweep()
            except SchemaNewer as error:
                self._newer_tables(error)
                return
            except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
                log.warning("sweep failed, trying again: %s", describe(error))
                self._was_away = True
            # Jitter keeps a fleet that started together from sweeping together.
            pause_s = min(self._every_s, RING_AGAIN_S) if self._unheard else self._every_s
            self._woken.wait(pause_s * random.uniform(0.8, 1.2))  # noqa: S311
            if self._woken.is_set():
                self._woken.clear()
                self._unheard = True

    def hurry(self) -> None:
        """Sweep now, and soon again: a ring was not heard, and its slot stands idle."""
        self._woken.set()

    def stop(self) -> None:
        self._stopping.set()
        self._woken.set()
        if self.is_alive():
            self.join(timeout=10)

    def _sweep(self) -> None:
        # Leases ran out while the database was away: their owners get the time of one sweep to
        # beat first, or living workers would be charged with crashes.
        swept = sweep(self._db, reclaim=not self._was_away)
        self._was_away = False
        if swept is None:
            self._watch_who_sweeps()
            return
        self._in_the_way = None
        if swept.reclaimed:
            log.warning(
                "reclaimed %d batches of silent workers (%d split, %d failed)",
                swept.reclaimed,
                swept.split,
                swept.failed,
            )
        heard = [self._doorbell.ring(queue, idle) for queue, idle in swept.idle.items()]
        self._unheard = not all(heard)
        if time.monotonic() >= self._next_tidying:
            self._next_tidying = time.monotonic() + TIDY_S
            query_cache.forget(self._db)
            retention.remove_jobs(self._db, days=self._retention_days)
            retention.remove_provider_batches(self._db, days=self._retention_days)
            retention.remove_shares(self._db, days=self._retention_days)

    def _watch_who_sweeps(self) -> None:
        """Say so where one and the same session has kept all others from sweeping for long."""
        holder, now = sweeping(self._db), time.monotonic()
        if holder is None:
            return
        pid, since = self._in_the_way or (holder.pid, now)
        if pid != holder.pid:
            since = now
        elif now - since >= STUCK_S:
            log.warning(
                "no sweep for %.0f s, so expired leases are not reclaimed: the lock is held by %s. "
                "If that is not a worker, end it with: SELECT pg_terminate_backend(%d)",
                now - since,
                holder,
                holder.pid,
            )
            since = now
        self._in_the_way = (holder.pid, since)
