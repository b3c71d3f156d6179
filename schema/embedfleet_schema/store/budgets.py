"""Budgets: what a batch may cost is reserved as it is claimed, and what it cost settles that.

For each job with a budget, what is spent, reserved, and perhaps spent never exceeds it together:
who reserves holds the job's lock, and whoever spends takes from what was reserved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import Connection

from embedfleet_schema.database import BUDGET_LOCK_SPACE, Database
from embedfleet_schema.money import money
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import transitions, usage
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.types import CollectionInfo, Space

_SQL = load("budgets")

# What a provider may count where we counted one token, and for each text besides: marks around it,
# and the words of a tokenizer that is not ours. The prompt has at most as many tokens as bytes.
TOKEN_FACTOR = 1.5
TOKENS_PER_TEXT = 8
# Locks of budgets are held for a moment. Who drops the collection may hold the batch meanwhile, and
# is let through well before PostgreSQL would look for a deadlock.
LOCK_MS = 500
# How long a process leaves a job alone whose budget is reserved: for answers that come in seconds,
# or in hours, and where it knows no price of the model.
LEASED_WAIT_S, FILED_WAIT_S, UNPRICED_WAIT_S = 1.0, 60.0, 30.0
# A part that is smaller than this share waits for answers, which give back some of the budget.
LEAST_SHARE = 0.5

RESERVED = "the rest of the job's budget is reserved for batches under way"
UNPRICED = (
    "the job has a budget, and a worker knows no price of {model}, so "
    "it leaves the batch to others; "
    "set EMBEDFLEET_PRICES for the workers, too"
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing of a batch can be paid for now."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Unaffordable:
    """Nothing of a batch can be paid for, and nothing is under way: `room` is what is left, which
    pays for so many tokens.
    """

    job_id: int
    budget: Decimal
    room: Decimal
    tokens: Decimal


@dataclass(frozen=True, slots=True)
class Room:
    """What of a budget may be reserved. `leased` and `filed`: batches may yet give some back."""

    budget: Decimal
    room: Decimal
    leased: bool
    filed: bool


class SkippedJobs:
    """Jobs that a process leaves alone for a while."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def skip(self, job_id: int, seconds: float) -> None:
        self._until[job_id] = time.monotonic() + seconds

    def end(self, job_id: int) -> None:
        """Look at it again: some of its budget came back."""
        self._until.pop(job_id, None)

    def jobs(self) -> list[int]:
        now = time.monotonic()
        for job_id, until in list(self._until.items()):
            if until <= now:
                self._until.pop(job_id, None)
        return list(self._until)


def bounds(counts: Sequence[int], space: Space) -> list[int]:
    """The most tokens that a provider is expected to count, for texts of so many tokens."""
    return [math.ceil(TOKEN_FACTOR * count) + per_text(space) for count in counts]


def counted_within(tokens: Decimal, space: Space) -> int:
    """The most tokens that a text may have of which a provider is to count so many at the most."""
    return math.floor((float(tokens) - per_text(space)) / TOKEN_FACTOR)


def per_text(space: Space) -> int:
    return TOKENS_PER_TEXT + len(space.document_prompt.encode())


def fitting(needed: Sequence[int], tokens: Decimal) -> list[int]:
    """The places of those that fit into so many tokens, the first ones first."""
    rows: list[int] = []
    for row, count in enumerate(needed):
        if count <= tokens:
            rows.append(row)
            tokens -= count
    return rows


def room(
    conn: Connection[Any],
    job_id: int,
    space_id: int,
    space: Space,
    price: Decimal,
    *,
    batch_id: int | None = None,
) -> Room | None:
    """What of a job's budget is free, for whoever is alone with it until the transaction ends.

    Returns None where it has no budget, or is gone.
    """
    conn.execute(_SQL["wait_briefly"], {"milliseconds": str(LOCK_MS)})
    conn.execute(_SQL["reserve_alone"], {"space": BUDGET_LOCK_SPACE, "job_id": job_id})
    values = {
        "job_id": job_id,
        "space_id": space_id,
        "batch_id": batch_id,
        "factor": TOKEN_FACTOR,
        "per_text": per_text(space),
        "price": price,
    }
    row = conn.execute(_SQL["room"], values).fetchone()
    return None if row is None or row[0] is None else Room(*row)


def reserve(
    conn: Connection[Any], lease: Lease, counts: Sequence[int], price: float | None
) -> Lease | Wait | Unaffordable:
    """Reserve what a claimed batch may cost, or a part of it: the rest becomes another batch.

    Args:
        counts: the tokens of its texts.
        price: of the one who claims, in USD per million tokens; None where it knows none.
    """
    space = lease.collection.space
    if not lease.texts:
        return lease
    if price is None:
        return Wait(UNPRICED_WAIT_S, UNPRICED.format(model=space.name))
    usd = usage.exact(price)
    found = room(conn, lease.job_id, lease.collection.space_id, space, usd, batch_id=lease.id)
    if found is None:
        return lease
    needed = bounds(counts, space)
    rows = affordable(found, needed, usd, lease.job_id)
    if not isinstance(rows, list):
        return rows
    if len(rows) < len(needed):
        left = sorted(set(range(len(needed))).difference(rows))
        rest = [lease.text_ids[row] for row in left]
        transitions.carve(
            conn, lease.collection, lease.id, rest, tokens=sum(counts[row] for row in left)
        )
    lease = lease.with_bounds(needed).only(rows)
    cost = usage.usd_of(sum(lease.bounds or ()), usd)
    conn.execute(_SQL["reserve"], {"id": lease.id, "usd": cost})
    return lease


def affordable(
    found: Room, needed: Sequence[int], price: Decimal, job_id: int
) -> list[int] | Wait | Unaffordable:
    """The places of the texts that can be paid for, if it is time for them."""
    if usage.usd_of(sum(needed), price) <= found.room:
        return list(range(len(needed)))
    tokens = found.room * usage.TOKENS_PER_PRICE / price if price else Decimal(0)
    rows = fitting(needed, tokens)
    if found.leased and sum(needed[row] for row in rows) < LEAST_SHARE * sum(needed):
        return Wait(LEASED_WAIT_S, RESERVED)
    if not rows and found.filed:
        return Wait(FILED_WAIT_S, RESERVED)
    return rows or Unaffordable(job_id, found.budget, found.room, tokens)


def counts_of(
    conn: Connection[Any], collection: CollectionInfo, text_ids: Sequence[int]
) -> list[tuple[int, int]]:
    """The tokens of texts, in their order."""
    rows = conn.execute(composed(_SQL["counts"], collection), {"texts": list(text_ids)})
    return rows.fetchall()


def settle(conn: Connection[Any], lease: Lease, usd: Decimal | None) -> None:
    """Take what an answer cost from what was reserved for it."""
    if usd is not None:
        values = {"id": lease.id, "attempt": lease.attempt, "job_id": lease.job_id, "usd": usd}
        conn.execute(_SQL["settle"], values)


def leave_unsettled(conn: Connection[Any], batch_id: int) -> None:
    """Keep what a batch had reserved when its worker was lost: it may have been spent."""
    conn.execute(_SQL["leave_unsettled"], {"id": batch_id})


def leave_provider_batch_unsettled(conn: Connection[Any], provider_batch_id: int) -> None:
    conn.execute(_SQL["leave_provider_batch_unsettled"], {"provider_batch_id": provider_batch_id})


def pause_unaffordable(db: Database, short: Unaffordable) -> bool:
    """Pause a job whose budget pays for none of its texts any more; whether that was done now."""

    def words(budget: Decimal, unsettled: Decimal) -> str:
        lost = f" ({money(unsettled)} may have been spent by calls that got no answer)"
        return (
            f"{money(max(short.room, Decimal(0)))} of the budget of {money(budget)} is left, less "
            f"than its next text may cost{lost if unsettled else ''}; go on with: "
            f"embedfleet resume {short.job_id} --budget USD"
        )

    given = {"budget_usd": short.budget}
    return usage.stop(db, _SQL["short_budget"], short.job_id, words, given)
