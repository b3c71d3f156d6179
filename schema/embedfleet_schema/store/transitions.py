"""The life of a batch: every step from one state to another, and the way out of a lease.

Nobody else writes a state. `EDGES` are all steps there are, by the names of the functions that take
them; docs/architecture.md draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost, UnknownJob
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import awaiting, documents, locks, workers
from embedfleet_schema.store.awaiting import Standing
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.types import CollectionInfo, Lane

_SQL = load("transitions")

Closed = Literal["done", "split", "dead"]
State = Literal[Standing, "leased", Closed]
# The statements that find what is claimed.
Best = Literal["best", "best_beside", "smallest", "chosen"]


class JobStanding(NamedTuple):
    """A job, and the state and the lane of its new batches."""

    job_id: int
    state: Standing
    lane: Lane


class NewBatch(NamedTuple):
    """A batch that a producer packed, under the number that its texts point to."""

    id: int
    text_ids: list[int]
    tokens: int


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

    def destination(self) -> Standing:
        """Where what is left of it goes: where its job stands, unless that was stopped and another
        one waits for it.
        """
        if self.standing == "pending":
            return self.standing
        heirs = awaiting.inherit(self.conn, [self.id])
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
        rows = self.conn.execute(self._of("record_failure"), values)
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
        state = self.destination()
        values = {"id": self.id, "state": state, "charge": charge, "live": live}
        words = reason if wait_s is None else reason.rstrip(".")
        waits = {"delay_s": delay_s, "wait_s": wait_s}
        self.conn.execute(_SQL["release"], values | waits | {"reason": words})

    def finish(
        self, target: Closed, reason: str | None = None, *, inserted: int = 0, failed: int = 0
    ) -> None:
        """Close the batch and take live what waited for it; `inserted` are vectors of it that are
        not counted yet.
        """
        self.go_live(self.text_ids)
        values = {"id": self.id, "state": target, "reason": reason}
        counts = {"inserted": inserted, "failed": failed}
        self.conn.execute(self._of("finish"), values | counts)

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
            divide(self.conn, self.collection, self.id, half, target=target, reason=reason)
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


def numbers(conn: Connection[Any], count: int) -> list[int]:
    """Numbers for so many new batches."""
    rows = conn.execute(_SQL["numbers"], {"count": count}) if count else ()
    return [number for (number,) in rows]


def standing(conn: Connection[Any], job_id: int) -> JobStanding:
    """Where a job stands. The caller shares its collection: a pause of it waits, or is seen.

    Raises:
        UnknownJob: there is none of this id.
    """
    row = conn.execute(_SQL["standing"], {"job_id": job_id}).fetchone()
    if row is None:
        raise UnknownJob(job=job_id)
    return JobStanding(*row)


def enqueue(
    conn: Connection[Any],
    collection: CollectionInfo,
    job: JobStanding,
    batches: Sequence[NewBatch],
) -> None:
    """New batches of a job, as it stands in this transaction."""
    values = {
        "collection_id": collection.id,
        "space_id": collection.space_id,
        "queue": collection.queue,
        "priority": 0,
    }
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["enqueue"],
            [
                values
                | job._asdict()
                | {"id": each.id, "texts": each.text_ids}
                | {"chunks": len(each.text_ids), "tokens": each.tokens}
                for each in batches
            ],
        )


def point(conn: Connection[Any], collection: CollectionInfo, batch_of: Mapping[int, int]) -> None:
    """Say of texts that are registered which batch they wait in, both by number."""
    if batch_of:
        values = {"texts": list(batch_of), "batches": list(batch_of.values())}
        conn.execute(composed(_SQL["point"], collection), values)


def divide(
    conn: Connection[Any],
    collection: CollectionInfo,
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
    row = conn.execute(_SQL["divide"], values | texts | {"keeps_place": keeps_place}).fetchone()
    if row is not None and target != "dead":
        point(conn, collection, dict.fromkeys(text_ids, row[0]))


def carve(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    rest: list[int],
    *,
    tokens: int,
) -> None:
    """Give some texts of a batch, of so many tokens, a batch of their own in its place."""
    divide(conn, collection, batch_id, rest, target="pending", tokens=tokens, keeps_place=True)
    conn.execute(_SQL["shrink"], {"id": batch_id, "rest": rest, "tokens": tokens})


@lru_cache
def claiming(best: Best, collection: CollectionInfo | None = None) -> sql.Composed:
    """The statement that leases what another finds, in any collection or in one."""
    found = _SQL[best] if collection is None else composed(_SQL[best], collection)
    return _SQL["claim"].format(best=found)


def by_index(conn: Connection[Any]) -> None:
    """Have the claims of this transaction follow the order of their indexes, and sort nothing."""
    conn.execute(_SQL["by_index"])


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
    locks.own_space_of_file(conn, file_id)
    rows = conn.execute(_SQL["leased_to_file"], {"file_id": file_id})
    awaiting.inherit(conn, [batch_id for (batch_id,) in rows])
    values = {"file_id": file_id, "reason": reason, "delay_s": delay_s, "live": live}
    chosen = {"ids": None if ids is None else list(ids)}
    return conn.execute(_SQL["release_file"], values | chosen).fetchall()


def align(conn: Connection[Any], ids: Sequence[int]) -> int:
    """Put waiting batches where job and space stand; how many that were. The caller shares their
    collection.
    """
    given = awaiting.inherit(conn, ids)
    return len(given) + conn.execute(_SQL["align"], {"ids": list(ids)}).rowcount


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
