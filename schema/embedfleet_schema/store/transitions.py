"""The life of a batch: every step from one state to another, and the way out of a lease.

Nobody else writes a state. `EDGES` are all steps there are, by the names of the functions that take
them; docs/architecture.md draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost, UnknownJob
from embedfleet_schema.packing import Packed
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import counters, documents, locks, workers
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.types import CollectionInfo

_SQL = load("transitions")

# Where the job and the space of a batch stand, which nobody leases.
Standing = Literal["pending", "held", "cancelled"]
Closed = Literal["done", "split", "dead"]
State = Literal[Standing, "leased", Closed]
# The statements that find what is claimed.
Best = Literal["best", "best_beside", "smallest", "chosen"]


class Edge(NamedTuple):
    """A step from one state to one of some others; without a `source` it makes the batch."""

    name: str
    source: State | None
    targets: tuple[State, ...]


EDGES = (
    Edge(name="enqueue", source=None, targets=("pending", "held", "cancelled")),
    Edge(name="divide", source=None, targets=("pending", "held", "cancelled", "dead")),
    Edge(name="claim", source="pending", targets=("leased",)),
    Edge(name="release", source="leased", targets=("pending", "held", "cancelled")),
    Edge(name="finish", source="leased", targets=("done", "split", "dead")),
    Edge(name="align", source="pending", targets=("held", "cancelled")),
    Edge(name="align", source="held", targets=("pending", "cancelled")),
)


@dataclass(slots=True)
class Leaving:
    """A lease whose row is locked, in the transaction that takes its batch on.

    `text_ids` are all texts of the batch; `limited`: its job has a budget. Where the lease ran out
    because its worker is gone, `crashes` is how often that happened to the batch.
    """

    conn: Connection[Any]
    id: int
    collection: CollectionInfo
    text_ids: list[int]
    standing: Standing
    limited: bool
    crashes: int | None = None
    _replaced: list[int] = field(default_factory=list)

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
        live: bool = False,
    ) -> None:
        """Give the lease up; without a delay the batch keeps its place in the queue.

        Args:
            reason: why, for people.
            delay_s: how long nobody may claim it.
            wait_s: the same in words only; nobody is kept from claiming it.
            charge: how many errors of its own it is charged.
            live: from the batch lane to the workers of its collection.
        """
        values = {"id": self.id, "state": self.standing, "charge": charge, "live": live}
        words = reason if wait_s is None else reason.rstrip(".")
        waits = {"delay_s": delay_s, "wait_s": wait_s}
        self.conn.execute(_counting("release"), values | waits | {"reason": words, "vectors": 0})

    def finish(
        self, target: Closed, reason: str | None = None, *, inserted: int = 0, failed: int = 0
    ) -> None:
        """Close the batch and take live what waited for it; `inserted` are vectors of it that are
        not counted yet.
        """
        self.go_live(self.text_ids)
        values = {"id": self.id, "state": target, "reason": reason}
        counts = {"vectors": inserted, "failed": failed}
        self.conn.execute(_counting("finish", self.collection), values | counts)

    def store(self, inserted: int, *, usd: Decimal | int) -> None:
        """Count vectors that it got while it goes on, and what they cost."""
        self.conn.execute(_counting("store"), {"id": self.id, "vectors": inserted, "usd": usd})

    def fail(self, text_ids: Sequence[int], *, code: str, reason: str) -> None:
        """Close it with a failure for those of these texts that have no vector."""
        failed = len(self.record(text_ids, code=code, reason=reason))
        self.finish("dead" if failed else "done", f"{code}: {reason}", failed=failed)

    def split(self, reason: str) -> bool:
        """Halve what has no vector yet; False where that is nothing."""
        left = self.missing()
        middle = len(left) // 2
        for half in filter(None, (left[:middle], left[middle:])):
            divide(self.conn, self.id, half, target=self.standing, reason=reason)
        self.finish("split" if left else "done", reason)
        return bool(left)

    def prune(self, db: Database) -> None:
        """After the transaction: remove what the documents that went live left behind."""
        documents.prune(db, self.collection, self._replaced)

    def _of(self, statement: str) -> sql.Composed:
        return composed(_SQL[statement], self.collection)


@contextmanager
def leaving(db: Database, lease: Lease, *, pausing: bool = False) -> Iterator[Leaving]:
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


def expired(conn: Connection[Any], collection: CollectionInfo, batch_id: int) -> Leaving | None:
    """The same of a lease that ran out, in a transaction of the sweeper, who prunes later; None
    where it was settled meanwhile, or is just being so.
    """
    locks.share(conn, collection.id)
    fence = _SQL["fence_expired"].format(alive=workers.ALIVE)
    return _fenced(conn, fence, collection, {"id": batch_id})


def enqueue(
    conn: Connection[Any], collection: CollectionInfo, job_id: int, packs: Sequence[Packed]
) -> None:
    """New batches of a job. The caller shares the collection: a pause of the job waits, or is seen.

    Raises:
        UnknownJob: there is none of this id.
    """
    row = conn.execute(_SQL["standing"], {"job_id": job_id}).fetchone()
    if row is None:
        raise UnknownJob(job=job_id)
    state, lane = row
    values = {
        "job_id": job_id,
        "collection_id": collection.id,
        "queue": collection.queue,
        "lane": lane,
        "state": state,
        "priority": 0,
    }
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["enqueue"],
            [
                values
                | {"chunks": len(each.text_ids), "tokens": each.tokens, "texts": each.text_ids}
                for each in packs
            ],
        )
    counts = {
        "batches": len(packs),
        "texts": sum(len(each.text_ids) for each in packs),
        "tokens": sum(each.tokens for each in packs),
    }
    conn.execute(_SQL["count_enqueued"], values | counts)


def divide(
    conn: Connection[Any],
    batch_id: int,
    text_ids: Sequence[int],
    *,
    target: Standing | Literal["dead"],
    reason: str | None = None,
    tokens: int | None = None,
    keeps_place: bool = False,
    live: bool = False,
) -> None:
    """Make a batch of some texts of another, in its place or behind the others.

    `tokens` are its share of them where they were not counted. `live`: it goes from the batch lane
    to the workers of its collection.
    """
    texts = {"texts": list(text_ids), "chunks": len(text_ids), "tokens": tokens}
    values = {"id": batch_id, "state": target, "reason": reason, "live": live}
    place = {"keeps_place": keeps_place, "vectors": 0}
    conn.execute(_counting("divide"), values | texts | place)


def carve(conn: Connection[Any], batch_id: int, rest: list[int], *, tokens: int) -> None:
    """Give some texts of a batch, of so many tokens, a batch of their own in its place."""
    divide(conn, batch_id, rest, target="pending", tokens=tokens, keeps_place=True)
    values = {"id": batch_id, "rest": rest, "tokens": tokens, "vectors": 0}
    conn.execute(_counting("shrink"), values)


@lru_cache
def claiming(best: Best, collection: CollectionInfo | None = None) -> sql.Composed:
    """The statement that leases what another finds, in any collection or in one."""
    found = _SQL[best] if collection is None else composed(_SQL[best], collection)
    return _SQL["claim"].format(best=found)


def claim(
    conn: Connection[Any],
    best: Best,
    values: Mapping[str, Any],
    collection: CollectionInfo | None = None,
) -> tuple[Any, ...] | None:
    """Lease the first batch that a statement finds, to a worker."""
    return conn.execute(claiming(best, collection), {"file_id": None, **values}).fetchone()


def claim_for_file(
    conn: Connection[Any], file_id: int, ids: Sequence[int], *, lease_seconds: float
) -> None:
    """Lease batches that the caller has locked, to a file of the lane."""
    values = {"ids": list(ids), "file_id": file_id, "lease_seconds": lease_seconds}
    conn.execute(claiming("chosen"), values | {"owner": None})


def release_file(
    conn: Connection[Any],
    file_id: int,
    *,
    reason: str | None,
    delay_s: float = 0.0,
    live: bool = False,
    ids: Sequence[int] | None = None,
) -> list[tuple[State, str]]:
    """Give the leases up that a file of the lane has, or those of `ids`; returns the state and the
    queue of each. The arguments are those of `Leaving.release`.
    """
    locks.share_lane_file(conn, file_id)
    values = {"file_id": file_id, "reason": reason, "delay_s": delay_s, "live": live}
    chosen = {"ids": None if ids is None else list(ids), "vectors": 0}
    return conn.execute(_counting("release_file"), values | chosen).fetchall()


def align(conn: Connection[Any], ids: Sequence[int]) -> int:
    """Put waiting batches where job and space stand; how many that were. The caller shares their
    collection.
    """
    row = conn.execute(_counting("align"), {"ids": list(ids), "vectors": 0}).fetchone()
    return int(row[0]) if row else 0


@lru_cache
def _counting(statement: str, collection: CollectionInfo | None = None) -> sql.Composed:
    """A statement that counts what it does to batches."""
    parts = {"row": _SQL["row"], "count": _SQL["count"]}
    if collection is None:
        return _SQL[statement].format(**parts)
    return composed(_SQL[statement], collection, **parts)


def _fenced(
    conn: Connection[Any],
    fence: sql.SQL | sql.Composed,
    collection: CollectionInfo,
    values: Mapping[str, Any],
) -> Leaving | None:
    row = conn.execute(fence, values).fetchone()
    if row is None:
        return None
    text_ids, *stands = row
    return Leaving(conn, values["id"], collection, text_ids, *stands)
