"""Webhooks: what is sent when a job ends, who sends it now, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UnknownJob
from embedfleet_schema.statements import load

_SQL = load("webhooks")
_UNFINISHED = load("jobs")["unfinished"]

WebhookState = Literal["waiting", "retrying", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One attempt: `attempt` fences what is noted of it, `timestamp` is the database's time in
    seconds since 1970.
    """

    id: UUID
    job_id: int
    url: str
    attempt: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class WebhookInfo:
    """What became of the webhook of a job: `waiting` for its end, `retrying`, `delivered`, or
    `failed` for good. `reason` is why the last attempt was not accepted, or none was made.

    Of its URL only the `host` is shown: the rest may hold a token.
    """

    id: str
    host: str
    state: WebhookState
    attempts: int
    reason: str | None
    delivered_at: datetime | None
    next_at: datetime | None


def create(conn: Connection[Any], job_id: int, url: str) -> None:
    """The webhook of a new job."""
    conn.execute(_SQL["create"], {"job_id": job_id, "url": url})


def claim(db: Database, *, lease_s: float) -> Webhook | None:
    """Take the webhook of a job that has ended; None where none is due. One that is neither
    delivered nor failed after `lease_s` is due again.
    """
    with db.transaction() as conn:
        statement = _SQL["claim"].format(unfinished=_UNFINISHED)
        row = conn.execute(statement, {"lease_s": lease_s}).fetchone()
    return None if row is None else Webhook(*row)


def deliver(db: Database, webhook: Webhook) -> None:
    """It was accepted. Nothing changes if another attempt has begun since."""
    with db.transaction() as conn:
        conn.execute(_SQL["deliver"], _of(webhook))


def fail(db: Database, webhook: Webhook, reason: str, *, wait_s: float, is_last: bool) -> None:
    """It was not accepted: the next attempt is in `wait_s` seconds, unless this was the last."""
    values = {"reason": reason, "wait_s": wait_s, "is_last": is_last}
    with db.transaction() as conn:
        conn.execute(_SQL["fail"], _of(webhook) | values)


def note(db: Database, reason: str) -> None:
    """Say of those that are due and that nobody has tried to send why this worker does not."""
    with db.transaction() as conn:
        conn.execute(_SQL["note"].format(unfinished=_UNFINISHED), {"reason": reason})


def of_job(db: Database, job_id: int) -> WebhookInfo | None:
    """The webhook of a job; None where it has none.

    Raises:
        UnknownJob: there is no such job.
    """
    with db.transaction() as conn:
        row = conn.execute(_SQL["of_job"], {"job_id": job_id}).fetchone()
    if row is None:
        raise UnknownJob(job=job_id)
    if row[0] is None:
        return None
    number, url, attempts, due_at, delivered_at, failed_at, reason = row
    state: WebhookState = "retrying" if attempts else "waiting"
    if delivered_at is not None or failed_at is not None:
        state = "delivered" if failed_at is None else "failed"
    next_at = due_at if state == "retrying" else None
    host = urlsplit(url).hostname or ""
    return WebhookInfo(str(number), host, state, attempts, reason, delivered_at, next_at)


def _of(webhook: Webhook) -> dict[str, object]:
    return {"job_id": webhook.job_id, "attempt": webhook.attempt}
