"""The life of a batch: every step from one state to another.

Nobody else writes a state. `EDGES` are all steps there are, by the names of the functions that take
them; docs/architecture.md draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from psycopg import Connection, Cursor, sql

from embedfleet_schema.errors import UnknownJob
from embedfleet_schema.statements import composed, load, rendered
from embedfleet_schema.store import awaiting, counters, locks, shares
from embedfleet_schema.store.awaiting import Standing
from embedfleet_schema.store.shares import Line
from embedfleet_schema.turns import PRIORITIES, Lane, lane_by_size
from embedfleet_schema.types import CollectionInfo, Delivery

_SQL = load("transitions")

Closed = Literal["done", "split", "dead"]
State = Literal[Standing, "leased", Closed]
# The statements that find what is claimed.
Best = Literal["best", "best_excluding", "smallest", "next_of_job", "chosen"]


class JobStanding(NamedTuple):
    """A job, and the state, the delivery and the turn of its new batches."""

    job_id: int
    state: Standing
    delivery: Delivery
    tenant: str
    lane: Lane
    lane_by_size: bool
    wanted_tokens: int
    traceparent: str | None = None

    def wanting(self, tokens: int, interactive_tokens: int) -> JobStanding:
        """The same once it wants so many tokens more: then it may be bulk, and stays so."""
        wanted, lane = self.wanted_tokens + tokens, self.lane
        if self.lane_by_size and lane == "interactive":
            lane = lane_by_size(wanted, interactive_tokens)
        return self._replace(lane=lane, wanted_tokens=wanted)

    def line(self, collection: CollectionInfo) -> Line:
        """Where its new batches take their turns; the batch API of a provider knows no lanes."""
        lane = self.lane if self.delivery == "direct" else "bulk"
        return Line(collection.space_id, collection.queue, PRIORITIES[lane], self.tenant)


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
    """New batches of a job, as it stands in this transaction, whose end this should be: see
    `shares.reserve`.
    """
    line = job.line(collection)
    values = {"collection_id": collection.id, **line._asdict()}
    tags = [0.0] * len(batches)
    if job.delivery == "direct" and job.state == "pending":
        tags = shares.reserve(conn, line, [each.tokens for each in batches])
    with conn.cursor() as cursor:
        cursor.executemany(
            _SQL["enqueue"],
            [
                values
                | job._asdict()
                | {"id": each.id, "texts": each.text_ids, "start_tag": tag}
                | {"chunks": len(each.text_ids), "tokens": each.tokens}
                for each, tag in zip(batches, tags, strict=True)
            ],
        )
    counts = {
        "batches": len(batches),
        "texts": sum(len(each.text_ids) for each in batches),
        "tokens": sum(each.tokens for each in batches),
    }
    if batches:
        conn.execute(_SQL["count_enqueued"], values | job._asdict() | counts)
    if job.lane_by_size:
        conn.execute(_SQL["want"], job._asdict())


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
    to_workers: bool = False,
) -> int | None:
    """Make a batch of some texts of another, in its place or behind the others of its tenant;
    returns its number.

    `tokens` are its share of them where they were not counted. `to_workers`: it goes from provider
    batches to the workers of its collection.
    """
    texts = {"texts": list(text_ids), "chunks": len(text_ids), "tokens": tokens}
    values = {"id": batch_id, "state": target, "reason": reason, "to_workers": to_workers}
    row = change(conn, "divide", values | texts | {"keeps_place": keeps_place}).fetchone()
    if row is None:
        return None
    if target != "dead":
        point(conn, collection, dict.fromkeys(text_ids, row[0]))
    return int(row[0])


def carve(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    rest: list[int],
    *,
    tokens: int,
    target: Standing = "pending",
) -> int | None:
    """Give some texts of a batch, of so many tokens, a batch of their own in its place; returns its
    number.
    """
    made = divide(conn, collection, batch_id, rest, target=target, tokens=tokens, keeps_place=True)
    change(conn, "shrink", {"id": batch_id, "rest": rest, "tokens": tokens})
    return made


@lru_cache
def claiming(best: Best, collection: CollectionInfo | None = None) -> sql.Composed:
    """The statement that leases what another finds, in any collection or in one."""
    found = _SQL[best] if collection is None else composed(_SQL[best], collection)
    return rendered(_SQL["claim"].format(best=found))


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
    return conn.execute(
        claiming(best, collection), {"provider_batch_id": None, **values}
    ).fetchone()


def claim_next(
    conn: Connection[Any], values: Mapping[str, Any], job_id: int, lane: Lane
) -> list[tuple[Any, ...]]:
    """Lease batches of a job that come next in a lane, to the worker that has just leased one."""
    values = {
        **values,
        "job_id": job_id,
        "priority": PRIORITIES[lane],
        "provider_batch_id": None,
    }
    return sorted(conn.execute(claiming("next_of_job"), values).fetchall())


def claim_for_provider_batch(
    conn: Connection[Any], provider_batch_id: int, ids: Sequence[int], *, lease_seconds: float
) -> None:
    """Lease batches that the caller has locked, to a provider batch."""
    values = {
        "ids": list(ids),
        "provider_batch_id": provider_batch_id,
        "lease_seconds": lease_seconds,
    }
    conn.execute(claiming("chosen"), values | {"owner": None})


def release_provider_batch(
    conn: Connection[Any],
    provider_batch_id: int,
    *,
    reason: str | None,
    delay_s: float = 0.0,
    to_workers: bool = False,
    ids: Sequence[int] | None = None,
) -> list[tuple[State, str]]:
    """Give the leases up that a provider batch has, or those of `ids`; returns the state and the
    queue of each. The arguments are those of `Settlement.release`.
    """
    locks.own_space_of_provider_batch(conn, provider_batch_id)
    values: dict[str, Any] = {
        "provider_batch_id": provider_batch_id,
        "ids": None if ids is None else list(ids),
    }
    leased = [batch_id for (batch_id,) in conn.execute(_SQL["lock_leased"], values)]
    awaiting.inherit(conn, leased, leaving=True)
    values |= {"reason": reason, "delay_s": delay_s, "to_workers": to_workers}
    released = change(conn, "release_provider_batch", values).fetchall()
    if to_workers:
        # Nobody took turns for them so far: they would go before all others.
        shares.place(conn, [batch_id for batch_id, _, _ in released])
    return [(state, queue) for _, state, queue in released]


def align(conn: Connection[Any], ids: Sequence[int]) -> int:
    """Put waiting batches where job and space stand; how many that were. The caller shares their
    collection.
    """
    # First the locks, then who waits for them: whoever begins to do so later waits for the locks.
    locked = [batch_id for (batch_id,) in conn.execute(_SQL["lock_free"], {"ids": list(ids)})]
    given = awaiting.inherit(conn, locked)
    moved = change(conn, "align", {"ids": locked}).fetchall()
    # Their tags are of the time when they were held: others would wait for all that comes back.
    shares.place(conn, [batch_id for batch_id, state in moved if state == "pending"])
    return len(given) + len(moved)


def change(
    conn: Connection[Any],
    statement: str,
    values: Mapping[str, Any],
    collection: CollectionInfo | None = None,
    *,
    vectors: int = 0,
) -> Cursor[Any]:
    """Run a statement that changes batches, and count what it does to them; `vectors` are what one
    batch got.
    """
    return conn.execute(_counting(statement, collection), {**values, "vectors": vectors})


@lru_cache
def _counting(statement: str, collection: CollectionInfo | None) -> sql.Composed:
    parts = {**counters.OF_BATCHES, "behind": shares.BEHIND}
    if collection is None:
        return rendered(_SQL[statement].format(**parts))
    return rendered(composed(_SQL[statement], collection, **parts))
