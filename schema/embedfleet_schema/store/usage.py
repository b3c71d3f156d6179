"""The ledger: what answers cost, per day, space, job and worker; and the stop at a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection, sql
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.money import money
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks, reconciliation

_SQL = load("usage")

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Spending:
    """What some answers cost. `usd` is None where the price of the model is not known."""

    requests: int
    texts: int
    tokens: int
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class UsageOfDay:
    """What one model cost on one day (UTC), over all its spaces, jobs and workers."""

    day: date
    model: str
    requests: int
    texts: int
    tokens: int
    usd: Decimal | None


def spending(*, requests: int, texts: int, tokens: int, price: float | None) -> Spending:
    """`price` is in USD per million tokens."""
    usd = None if price is None else usd_of(tokens, exact(price))
    return Spending(requests, texts, tokens, usd)


def exact(price: float) -> Decimal:
    """By way of its decimal digits: a ledger adds up what a person reads in the price list."""
    return Decimal(str(price))


def usd_of(tokens: int, price: Decimal) -> Decimal:
    return price * tokens / TOKENS_PER_PRICE


def add(
    conn: Connection[Any],
    space_id: int,
    spent: Spending,
    *,
    job_id: int | None,
    worker_id: UUID | None,
) -> None:
    """Enter it; last in a transaction, because threads of one worker share a row."""
    conn.execute(
        _SQL["add"],
        {
            "space_id": space_id,
            "job_id": job_id,
            "worker_id": worker_id,
            "requests": spent.requests,
            "texts": spent.texts,
            "tokens": spent.tokens,
            "usd": spent.usd,
        },
    )


def by_day(db: Database, days: int = 30) -> list[UsageOfDay]:
    """The ledger of the last `days` days, today among them; the newest first."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(UsageOfDay)) as cursor:
        return cursor.execute(_SQL["by_day"], {"days": days}).fetchall()


def spent_on(conn: Connection[Any], job_id: int) -> Decimal:
    """What a job has cost so far, as far as prices were known."""
    row = conn.execute(_SQL["spent"], {"job_id": job_id}).fetchone()
    return Decimal(0) if row is None else Decimal(row[0])


def stop_unpriced(db: Database, job_id: int) -> bool:
    """Pause the job if it has a budget: whoever works on it knows no price, so nothing would ever
    reach it.
    """
    return stop(db, _SQL["unpriced_reason"], job_id, str)


def stop_at_budget(db: Database, job_id: int) -> bool:
    """Pause the job if its budget is spent; returns whether that was done now.

    A transaction of its own, after what was spent is entered: of two workers that cross the line
    at once, the later one sees both. What is reserved keeps a job below its budget, as long as its
    provider counts no more tokens than was expected of it.
    """

    def words(budget: Decimal) -> str:
        resume = f"embedfleet resume {job_id} --budget USD"
        return f"the budget of {money(budget)} is spent; go on with: {resume}"

    return stop(db, _SQL["spent_budget"], job_id, words)


def pause_if_spent(db: Database, job_id: int, spent: Spending) -> bool:
    """After something was spent on a job that has a budget: whether it was paused for it."""
    return stop_unpriced(db, job_id) if spent.usd is None else stop_at_budget(db, job_id)


def stop(
    db: Database,
    why: sql.SQL,
    job_id: int,
    words: Callable[..., str],
    given: Mapping[str, object] | None = None,
) -> bool:
    """Pause a job if `why` gives a row; `words` makes the reason of it."""
    values = {"job_id": job_id, **(given or {})}
    with db.transaction() as conn:
        if conn.execute(why, values).fetchone() is None:
            return False
        # Now alone: meanwhile it may have been stopped by another worker, or got another budget.
        locks.own_job(conn, job_id)
        row = conn.execute(why, values).fetchone()
        if row is None:
            return False
        conn.execute(_SQL["pause_job"], values | {"reason": words(*row)})
    reconciliation.reconcile(db)
    return True
