"""The transaction of a claim: the best batch that nothing stands in the way of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from embedfleet_schema.embedded_text import embedded_text
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import budgets, collections, reuse, transitions
from embedfleet_schema.store.budgets import SkippedJobs, Unaffordable, Wait
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.store.settlement import Settlement
from embedfleet_schema.store.transitions import Best
from embedfleet_schema.turns import lane_of
from embedfleet_schema.types import CollectionInfo, as_bigints

_SQL = load("batches")

OVERLAP_S = 1.0
OVERLAP_REASON = "another batch is embedding some of its texts now"
SMALLER_FIRST = "the rest of the budget is small, so smaller texts of the job go first"

# USD per million tokens of `provider/model`; None where nobody knows.
PriceOf = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease; `stopped`: it has to be released, because its job was stopped, or is to be stopped
    now as `short`.
    """

    lease: Lease
    stopped: bool = False
    short: Unaffordable | None = None


def claim(
    conn: Connection[Any],
    best: Best,
    values: Mapping[str, Any],
    price_of: PriceOf,
    skipped: SkippedJobs,
) -> Claimed | None:
    """One transaction, in which time stands still: what is put back is not claimed again."""
    values = {**values, "skipped": skipped.jobs()}
    tried: list[int] = []
    transitions.by_index(conn)
    row = transitions.claim(conn, best, values)
    while row is not None:
        collection = collections.by_id(conn, row[4])
        ((lease, counts),) = _read(conn, collection, [row])
        obstacle, has_budget = _obstacle(conn, lease)
        row = None
        if obstacle == "stopped":
            return Claimed(lease, stopped=True)
        if obstacle == "overlaps":
            _claimed(conn, lease).release(reason=OVERLAP_REASON, delay_s=OVERLAP_S)
        elif not has_budget:
            return Claimed(lease)
        else:
            found = budgets.reserve(conn, lease, counts, price_of(lease.collection.space.name))
            if isinstance(found, Lease):
                return Claimed(found)
            if isinstance(found, Unaffordable):
                tried.append(lease.id)
                row, later = _smaller(conn, lease, found, values | {"tried": tried})
                if row is None and not later:
                    return Claimed(lease, stopped=True, short=found)
                found = Wait(budgets.LEASED_WAIT_S, SMALLER_FIRST)
            _put_back(conn, lease, found, skipped)
            values["skipped"] = skipped.jobs()
        row = row or transitions.claim(conn, best, values)
    return None


def _claimed(conn: Connection[Any], lease: Lease) -> Settlement:
    """What was claimed in this transaction is still ours, and of a job that nobody has stopped."""
    return Settlement(conn, lease.id, lease.collection, lease.text_ids, "pending", has_budget=False)


def _put_back(conn: Connection[Any], lease: Lease, wait: Wait, skipped: SkippedJobs) -> None:
    """It keeps its place: another process may take it at once."""
    _claimed(conn, lease).release(reason=wait.reason)
    skipped.skip(lease.job_id, wait.seconds)


def _smaller(
    conn: Connection[Any], lease: Lease, short: Unaffordable, values: dict[str, Any]
) -> tuple[tuple[Any, ...] | None, bool]:
    """A batch of the same job that can be paid for, claimed; and whether one comes later."""
    values["job_id"] = lease.job_id
    values["most"] = budgets.counted_within(short.tokens, lease.collection.space)
    row = transitions.claim(conn, "smallest", values, lease.collection)
    smaller_later = composed(_SQL["smaller_later"], lease.collection)
    later = row or conn.execute(smaller_later, values).fetchone()
    return row, bool(later and later[0])


def more(conn: Connection[Any], lease: Lease, values: Mapping[str, Any]) -> list[Lease]:
    """Batches that come next of the same job: none of them needs more than to be embedded."""
    collection = lease.collection
    transitions.by_index(conn)
    rows = transitions.claim_next(conn, values, lease.job_id, lease.lane)
    leases = [each for each, _ in _read(conn, collection, rows)]
    text_ids = [text_id for each in leases for text_id in each.text_ids]
    asked = {
        "collection_id": collection.id,
        "ids": [lease.id, *(each.id for each in leases)],
        "texts": as_bigints(text_ids),
    }
    taken = {text_id for (text_id,) in conn.execute(_SQL["taken"], asked)} if leases else set()
    for each in leases:
        if not taken.isdisjoint(each.text_ids):
            _claimed(conn, each).release(reason=OVERLAP_REASON, delay_s=OVERLAP_S)
    return [each for each in leases if taken.isdisjoint(each.text_ids)]


def _read(
    conn: Connection[Any], collection: CollectionInfo, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Lease, list[int]]]:
    """The leases, each with the tokens of its texts."""
    asked = {"texts": as_bigints(text_id for *_, text_ids in rows for text_id in text_ids)}
    found = conn.execute(composed(_SQL["missing_texts"], collection), asked).fetchall()
    missing = {
        text_id: (embedded_text(content, context), tokens)
        for text_id, content, context, tokens in found
    }
    others = reuse.siblings(conn, collection)
    return [_lease(collection, row, missing, others) for row in rows]


def _lease(
    collection: CollectionInfo,
    row: tuple[Any, ...],
    missing: Mapping[int, tuple[str, int]],
    others: Sequence[int],
) -> tuple[Lease, list[int]]:
    batch_id, attempt, errors, job_id, _, priority, tokens, waited_s, traceparent, text_ids = row
    left = [text_id for text_id in text_ids if text_id in missing]
    lease = Lease(
        id=batch_id,
        attempt=attempt,
        errors=errors,
        job_id=job_id,
        collection=collection,
        tokens=tokens * len(left) // max(1, len(text_ids)),
        text_ids=left,
        texts=[missing[text_id][0] for text_id in left],
        others=others,
        lane=lane_of(priority),
        waited_s=waited_s,
        traceparent=traceparent,
    )
    return lease, [missing[text_id][1] for text_id in left]


def _obstacle(conn: Connection[Any], lease: Lease) -> tuple[str | None, bool]:
    """What is in the way, and whether the job has a budget."""
    values = {"id": lease.id, "job_id": lease.job_id, "texts": as_bigints(lease.text_ids)}
    row = conn.execute(_SQL["obstacle"], values).fetchone()
    return (None, False) if row is None else (row[0], row[1])
