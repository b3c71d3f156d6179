"""How a lease is settled: each way begins with the fence, and is a step of `store.transitions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import awaiting, counters, documents, locks, transitions, workers
from embedfleet_schema.store.awaiting import Standing
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.store.transitions import Closed
from embedfleet_schema.types import CollectionInfo, as_bigints

_SQL = load("transitions")


@dataclass(slots=True)
class Settlement:
    """A lease whose row is locked, in the transaction that takes its batch on.

    `text_ids` are all texts of the batch; `has_budget` is that of its job. Where the lease ran out
    because its worker is gone, `crashes` is how often that happened to the batch.
    """

    conn: Connection[Any]
    id: int
    collection: CollectionInfo
    text_ids: list[int]
    standing: Standing
    has_budget: bool
    crashes: int | None = None
    _replaced: list[int] = field(default_factory=list)

    def destination(self) -> Standing:
        """Where what is left of it goes: where its job stands, unless that was stopped and another
        one waits for it.
        """
        if self.standing == "pending":
            return self.standing
        heirs = awaiting.inherit(self.conn, [self.id], leaving=True)
        return heirs.get(self.id, self.standing)

    def missing(self) -> list[int]:
        """Those of its texts that have no vector, in their order."""
        rows = self.conn.execute(self._of("missing"), {"texts": self.text_ids})
        return [text_id for (text_id,) in rows]

    def go_live(self, text_ids: Sequence[int]) -> None:
        """Take documents live that waited only for these texts."""
        self._replaced += documents.go_live(self.conn, self.collection, text_ids)

    def record(self, text_ids: Sequence[int], *, code: str, reason: str) -> list[int]:
        """A failure for each text that has a chunk and no vector; returns which those are."""
        values = {"id": self.id, "texts": list(text_ids), "code": code, "reason": reason}
        failure = composed(_SQL["record_failure"], self.collection, **counters.OF_FAILURES)
        rows = self.conn.execute(failure, values)
        return [text_id for (text_id,) in rows]

    def release(
        self,
        *,
        reason: str,
        delay_s: float | None = None,
        wait_s: float | None = None,
        charge: int = 0,
        to_workers: bool = False,
    ) -> None:
        """Give the lease up; without a delay the batch keeps its place in the queue.

        Args:
            reason: why, for people.
            delay_s: how long nobody may claim it.
            wait_s: the same in words only; nobody is kept from claiming it.
            charge: how many errors of its own it is charged.
            to_workers: from provider batches to the workers of its collection.
        """
        state = self.destination()
        values = {"id": self.id, "state": state, "charge": charge, "to_workers": to_workers}
        words = reason if wait_s is None else reason.rstrip(".")
        waits = {"delay_s": delay_s, "wait_s": wait_s}
        transitions.change(self.conn, "release", values | waits | {"reason": words})

    def finish(
        self, target: Closed, reason: str | None = None, *, inserted: int = 0, failed: int = 0
    ) -> None:
        """Close the batch and take live what waited for it; `inserted` are vectors of it that are
        not counted yet.
        """
        self.go_live(self.text_ids)
        finish(
            self.conn,
            self.collection,
            {self.id: inserted},
            vectors=inserted,
            state=target,
            reason=reason,
            failed=failed,
        )

    def store(self, inserted: int, *, usd: Decimal | int) -> None:
        """Count vectors that it got while it goes on, and what they cost."""
        transitions.change(self.conn, "store", {"id": self.id, "usd": usd}, vectors=inserted)

    def fail(self, text_ids: Sequence[int], *, code: str, reason: str) -> None:
        """Close it with a failure for those of these texts that have no vector."""
        failed = len(self.record(text_ids, code=code, reason=reason))
        self.finish("dead" if failed else "done", f"{code}: {reason}", failed=failed)

    def split(self, reason: str) -> bool:
        """Halve what has no vector yet; False where that is nothing."""
        left = self.missing()
        middle = len(left) // 2
        target = self.destination()
        for half in filter(None, (left[:middle], left[middle:])):
            transitions.divide(
                self.conn, self.collection, self.id, half, target=target, reason=reason
            )
        self.finish("split" if left else "done", reason)
        return bool(left)

    def prune(self, db: Database) -> None:
        """After the transaction: remove what the documents that went live left behind."""
        documents.prune(db, self.collection, self._replaced)

    def _of(self, statement: str) -> sql.Composed:
        return composed(_SQL[statement], self.collection)


def finish(
    conn: Connection[Any],
    collection: CollectionInfo,
    stored: Mapping[int, int],
    *,
    vectors: int,
    state: Closed = "done",
    reason: str | None = None,
    failed: int = 0,
) -> None:
    """Close batches of one job that got so many `vectors` which are not counted yet; `stored` says
    by batch how many at least.
    """
    values = {"ids": as_bigints(stored), "stored": as_bigints(stored.values())}
    ends = {"state": state, "reason": reason, "failed": failed}
    transitions.change(conn, "finish", values | ends, collection, vectors=vectors)


def fenced(conn: Connection[Any], leases: Sequence[Lease]) -> dict[int, list[int]]:
    """Those of several leases in one collection that still stand, with all texts of their batches.
    None of them can be lost, and no job be stopped, until the transaction ends.
    """
    locks.share(conn, leases[0].collection.id)
    values = {
        "ids": [lease.id for lease in leases],
        "attempts": [lease.attempt for lease in leases],
    }
    return dict(conn.execute(_SQL["fence_several"], values).fetchall())


@contextmanager
def settling(db: Database, lease: Lease, *, pausing: bool = False) -> Iterator[Settlement]:
    """One transaction that takes a batch on, for whoever still has its lease.

    Args:
        pausing: its space is paused in the same transaction.

    Raises:
        LeaseLost: the batch went to somebody else; nothing was written.
    """
    with db.transaction() as conn:
        if pausing:
            locks.own_spaces(conn, [lease.collection.space_id])
        else:
            locks.share(conn, lease.collection.id)
        values = {"id": lease.id, "attempt": lease.attempt}
        batch = _fenced(conn, _SQL["fence"], lease.collection, values)
        if batch is None:
            raise LeaseLost(batch=lease.id, attempt=lease.attempt)
        yield batch
    batch.prune(db)


def expired(conn: Connection[Any], collection: CollectionInfo, batch_id: int) -> Settlement | None:
    """The same of a lease that ran out, in a transaction of the sweeper, who prunes later; None
    where it was settled meanwhile, or is just being so.
    """
    locks.share(conn, collection.id)
    fence = _SQL["fence_expired"].format(alive=workers.ALIVE)
    return _fenced(conn, fence, collection, {"id": batch_id})


def _fenced(
    conn: Connection[Any],
    fence: sql.SQL | sql.Composed,
    collection: CollectionInfo,
    values: Mapping[str, Any],
) -> Settlement | None:
    row = conn.execute(fence, values).fetchone()
    if row is None:
        return None
    text_ids, *stands = row
    return Settlement(conn, values["id"], collection, text_ids, *stands)
