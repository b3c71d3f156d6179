"""The heartbeat: a thread and a connection of its own, so that no long batch can silence it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from embedfleet_schema.database import Database, OwnConnection
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.store import workers
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.workers import WorkerIdentity
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)

# Without a beat for this share of the lease, its end is near and may be unknown to us.
GIVE_UP_SHARE = 0.75


@dataclass(slots=True)
class ActiveLease:
    """A lease in this process; `lost` once the database says so, or cannot be asked in time.

    That is by the clock: a network that drops everything keeps the beat itself waiting.
    """

    lease: Lease
    give_up_s: float
    beaten: float = field(default_factory=time.monotonic)
    taken: bool = False

    @property
    def lost(self) -> bool:
        return self.taken or time.monotonic() - self.beaten > self.give_up_s


class Heartbeat(threading.Thread):
    """Keeps this process's leases and its worker row alive."""

    def __init__(
        self,
        db: Database,
        batches: Batches,
        worker: WorkerIdentity,
        *,
        lease_s: float,
        reason: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`reason` is why this process claims nothing, if it does not."""
        super().__init__(name="embedfleet-heartbeat", daemon=True)
        self._batches = batches
        self._worker = worker
        self._every_s = worker.heartbeat_seconds
        self._give_up_s = lease_s * GIVE_UP_SHARE
        self._reason = reason
        self._lock = threading.Lock()
        self._active: dict[int, ActiveLease] = {}
        self._done = (0, 0, 0)
        self._stopping = threading.Event()
        self._own = OwnConnection(db)

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[ActiveLease]:
        """Keep `lease` alive inside the block."""
        active = ActiveLease(lease, self._give_up_s)
        with self._lock:
            self._active[lease.id] = active
        try:
            yield active
        finally:
            with self._lock:
                self._active.pop(lease.id, None)

    def count(self, *, batches: int, chunks: int, tokens: int) -> None:
        """Add to what the next beat reports."""
        with self._lock:
            done = self._done
            self._done = (done[0] + batches, done[1] + chunks, done[2] + tokens)

    def runs_on(self, device: str) -> None:
        """Have the worker's row say what its models run on, from the next beat on."""
        with self._lock:
            self._worker = replace(self._worker, device=device)

    def run(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._beat()
            except (psycopg.Error, DatabaseUnreachable) as error:
                log.warning("heartbeat failed, trying again: %s", describe(error))
                self._own.close()
                self._stopping.wait(min(1.0, self._every_s))
                continue
            self._stopping.wait(max(0.0, self._every_s - (time.monotonic() - started)))

    def stop(self) -> None:
        """End the thread and sign the worker off."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        try:
            self._report()
            with self._own.transaction() as conn:
                workers.leave(conn, self._worker.id)
        except (psycopg.Error, DatabaseUnreachable) as error:
            log.warning("could not report that this worker ends: %s", describe(error))
        self._own.close()

    def _beat(self) -> None:
        with self._lock:
            active = list(self._active.values())
        if active:
            asked = time.monotonic()
            pairs = [(each.lease.id, each.lease.attempt) for each in active]
            with self._own.transaction() as conn:
                alive = self._batches.heartbeat(pairs, conn)
            for each in active:
                each.beaten = asked
                each.taken = each.taken or each.lease.id not in alive
        self._report()

    def _report(self) -> None:
        with self._lock:
            done, self._done = self._done, (0, 0, 0)
            worker = self._worker
        batches, chunks, tokens = done
        with self._own.transaction() as conn:
            if not workers.beat(
                conn,
                worker,
                batches=batches,
                chunks=chunks,
                tokens=tokens,
                reason=self._reason(),
            ):
                workers.register(conn, worker)
