"""Provider batches: what is taken into one, where it stands, and how it ends.

    filing --filed--> filed --harvested--> done
      |                 '------ the provider gave it up, or nobody wants it--> failed
      '-- it died, was refused, or had nothing to file--> failed

One has the leases of its batches for as long as it is not over; see
`store.provider_batch_answers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import budgets, locks, reconciliation, spaces, transitions, usage
from embedfleet_schema.store.claims import OVERLAP_REASON
from embedfleet_schema.store.provider_batch_budgets import Candidate, JobBudgets
from embedfleet_schema.store.usage import Spending

_SQL = load("provider_batches")

# "up to 50,000 requests", "up to 50,000 embedding inputs across all requests" and, by the help
# center, "1 million enqueued requests" of embeddings: https://platform.openai.com/docs/guides/batch
MOST_TEXTS = 50_000
MOST_WAITING = 1_000_000
# More tokens than this never fit into the bytes of its file.
MOST_TOKENS = 60_000_000
# Batches that are looked at for one of them.
MOST_BATCHES = 10_000
# Of the tokens that may wait at a provider: counts differ from its own by a little.
LIMIT_SHARE = 0.9
# The provider's 24 hours, and time to fetch the answers: what a person is told, not what ends it.
LEASE_S = 26 * 3_600.0
# Texts that another batch is embedding are looked at again after this time.
OVERLAP_S = 600.0
# The code of one that the provider had no room for.
NO_ROOM = "no_room"

State = Literal["filing", "filed", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """One that is not over, filed with `account` (a hash of the key) at `price`.

    `checked_s` is the time since somebody saw to it, `age_s` since it was filed or, before that,
    made. `leased` counts its open batches, and `wanted` those of jobs that are not cancelled.
    """

    id: int
    token: str
    account: str | None
    space_id: int
    model: str
    state: State
    input_file_id: str | None
    remote_batch_id: str | None
    requests: int
    tokens: int
    price: float | None
    created_at: datetime
    checked_s: float
    age_s: float
    leased: int
    wanted: int


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Batches that left one: how many, and the queues of those that workers may claim now."""

    batches: int
    queues: frozenset[str]


def due(db: Database, *, patience_s: float) -> list[tuple[int, str]]:
    """The spaces that have something to file, with their models."""
    values = {"texts": MOST_TEXTS, "patience_seconds": patience_s}
    with db.transaction() as conn:
        return [(space_id, model) for space_id, model in conn.execute(_SQL["due"], values)]


def take(
    db: Database, space_id: int, model: str, *, price: float | None, account: str | None = None
) -> ProviderBatch | None:
    """Lease what fits into one, in the order of the queue; None where nothing may be filed.

    Of a job with a budget no more is filed than the budget is sure to pay for; that much of it is
    reserved until it ends. Texts that are under way already are put off: when their turn
    comes again they have vectors. Where the price is not known, jobs with a budget are left to
    those who know it.
    """
    with db.transaction() as conn:
        if price is None:
            left = {"space_id": space_id, "reason": budgets.UNPRICED.format(model=model)}
            conn.execute(_SQL["leave_to_others"], left)
        chosen, job_budgets = _chosen(conn, space_id, price)
        provider_batch = _leased(conn, space_id, account, price, chosen, job_budgets.costs)
    for short in job_budgets.short:
        budgets.pause_unaffordable(db, short)
    return provider_batch


def _leased(
    conn: Connection[Any],
    space_id: int,
    account: str | None,
    price: float | None,
    chosen: list[Candidate],
    costs: Mapping[int, Decimal],
) -> ProviderBatch | None:
    """One of the chosen batches, without those that share a text with another."""
    overlapping = _overlapping(conn, [batch.id for batch in chosen])
    if overlapping:
        put_off = {"delay_seconds": OVERLAP_S, "reason": OVERLAP_REASON}
        conn.execute(_SQL["put_off"], put_off | {"ids": sorted(overlapping)})
    chosen = [batch for batch in chosen if batch.id not in overlapping]
    if not chosen:
        return None
    reserved = {str(job_id): str(usd) for job_id, usd in costs.items()}
    values = {
        "space_id": space_id,
        "account": account,
        "requests": sum(batch.texts for batch in chosen),
        "tokens": sum(batch.tokens for batch in chosen),
        "price": price,
        "reserved": Jsonb(reserved) if reserved else None,
    }
    row = conn.execute(_SQL["create"], values).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    ids = [batch.id for batch in chosen]
    transitions.claim_for_provider_batch(conn, row[0], ids, lease_seconds=LEASE_S)
    (provider_batch,) = _unfinished(conn, row[0])
    return provider_batch


def unfinished(db: Database) -> list[ProviderBatch]:
    """Those that are not over, the oldest first."""
    with db.transaction() as conn:
        return _unfinished(conn)


def touch(
    db: Database,
    provider_batch: ProviderBatch,
    *,
    requests: int,
    tokens: int,
    input_file_id: str | None = None,
) -> bool:
    """Say that it is being worked on; False where it was given up meanwhile."""
    sizes = {"requests": requests, "tokens": tokens, "input_file_id": input_file_id}
    with db.transaction() as conn:
        return (
            conn.execute(_SQL["touch"], {"id": provider_batch.id, **sizes}).fetchone() is not None
        )


def filed(
    db: Database, provider_batch: ProviderBatch, remote_batch_id: str, input_file_id: str | None
) -> bool:
    """The provider has it; False where it was given up meanwhile."""
    values = {
        "id": provider_batch.id,
        "remote_batch_id": remote_batch_id,
        "input_file_id": input_file_id,
    }
    with db.transaction() as conn:
        return conn.execute(_SQL["filed"], values).fetchone() is not None


def looked(db: Database, provider_batch: ProviderBatch, reason: str | None = None) -> None:
    """Somebody asked the provider about it."""
    with db.transaction() as conn:
        conn.execute(_SQL["looked"], {"id": provider_batch.id, "reason": reason})


def spare(db: Database, provider_batch: ProviderBatch, ids: Sequence[int]) -> None:
    """Put batches back that do not fit into it; they keep their places."""
    with db.transaction() as conn:
        transitions.release_provider_batch(conn, provider_batch.id, reason=None, ids=ids)


def give_up(
    db: Database,
    provider_batch: ProviderBatch,
    *,
    code: str,
    reason: str,
    to_workers: bool = False,
    delay_s: float = 0.0,
    token_limit: int | None = None,
    answered: bool = False,
) -> GivenBack:
    """End one that brought nothing, and put its batches back without a charge.

    Args:
        to_workers: to the workers of their collections, not to be filed again.
        delay_s: how long they are not filed.
        token_limit: how many tokens may wait at the provider, as it says.
        answered: the provider may have answered it, so what it reserved may be spent.
    """
    with db.transaction() as conn:
        locks.own_space_of_provider_batch(conn, provider_batch.id)
        if answered:
            budgets.leave_provider_batch_unsettled(conn, provider_batch.id)
        if not _end(
            conn, provider_batch, "failed", code=code, reason=reason, token_limit=token_limit
        ):
            return GivenBack(0, frozenset())
        rows = transitions.release_provider_batch(
            conn, provider_batch.id, reason=reason, delay_s=delay_s, to_workers=to_workers
        )
    ready = {queue for state, queue in rows if to_workers and state == "pending"}
    return GivenBack(len(rows), frozenset(ready))


def finish(
    db: Database,
    provider_batch: ProviderBatch,
    spent: Mapping[int | None, Spending],
    *,
    reason: str | None = None,
) -> bool:
    """End one whose batches are settled, and enter what it cost by job; False: it was ended
    before.
    """
    with db.transaction() as conn:
        if not _end(conn, provider_batch, "done", reason=reason):
            return False
        for job_id in sorted(spent, key=lambda job: job or 0):
            usage.add(conn, provider_batch.space_id, spent[job_id], job_id=job_id, worker_id=None)
    for job_id, spending in spent.items():
        if job_id is not None:
            usage.pause_if_spent(db, job_id, spending)
    return True


def drop_cancelled(db: Database, provider_batch: ProviderBatch) -> None:
    """End the batches of one that nobody wants any more."""
    with db.transaction() as conn:
        transitions.release_provider_batch(conn, provider_batch.id, reason=None)


def pause(db: Database, space_id: int, code: str, reason: str) -> None:
    """Have the whole space wait for a person."""
    with db.transaction() as conn:
        locks.own_spaces(conn, [space_id])
        spaces.pause(conn, space_id, code, reason)
    reconciliation.reconcile(db)


def refusals_in_a_row(db: Database, space_id: int) -> int:
    """How often the provider had no room for one, since it last answered one."""
    with db.transaction() as conn:
        values = {"space_id": space_id, "code": NO_ROOM}
        row = conn.execute(_SQL["refusals_in_a_row"], values).fetchone()
    return 0 if row is None else int(row[0])


def waiting_tokens(db: Database, space_id: int) -> int:
    """Tokens of the space's model that wait at the provider, by our count."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["under_way"], {"space_id": space_id}).fetchone()
    return 0 if row is None else int(row[1])


def _unfinished(conn: Connection[Any], only: int | None = None) -> list[ProviderBatch]:
    with conn.cursor(row_factory=class_row(ProviderBatch)) as cursor:
        return cursor.execute(_SQL["unfinished"], {"id": only}).fetchall()


def _chosen(
    conn: Connection[Any], space_id: int, price: float | None
) -> tuple[list[Candidate], JobBudgets]:
    """What is filed next, and who pays for it."""
    row = conn.execute(_SQL["under_way"], {"space_id": space_id}).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY gives a row
    waiting, waiting_tokens, limit = row
    texts = min(MOST_TEXTS, MOST_WAITING - int(waiting))
    tokens = MOST_TOKENS
    if limit is not None:
        tokens = min(tokens, int(LIMIT_SHARE * limit) - int(waiting_tokens))
    values = {"space_id": space_id, "limit": MOST_BATCHES, "priced": price is not None}
    candidates = [Candidate(*each) for each in conn.execute(_SQL["candidates"], values)]
    job_budgets = JobBudgets(conn, space_id, price, candidates)
    chosen: list[Candidate] = []
    for batch in candidates:
        # One batch goes even if the limit is smaller: it may have been learnt from a busy hour.
        alone = not chosen and not waiting_tokens
        if batch.texts > texts or (batch.tokens > tokens and not alone):
            break
        paid = job_budgets.pay(batch)
        if paid is not None:
            chosen.append(paid)
            texts -= paid.texts
            tokens -= paid.tokens
    return chosen, job_budgets


def _overlapping(conn: Connection[Any], ids: Sequence[int]) -> set[int]:
    if not ids:
        return set()
    return {batch_id for (batch_id,) in conn.execute(_SQL["overlapping"], {"ids": list(ids)})}


def _end(
    conn: Connection[Any],
    provider_batch: ProviderBatch,
    state: State,
    *,
    code: str | None = None,
    reason: str | None = None,
    token_limit: int | None = None,
) -> bool:
    values = {"state": state, "code": code, "reason": reason, "token_limit": token_limit}
    return conn.execute(_SQL["end"], {"id": provider_batch.id, **values}).fetchone() is not None
