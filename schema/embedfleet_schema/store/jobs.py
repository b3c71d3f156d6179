"""Jobs: what a person waits for, pauses and cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from psycopg import Connection, sql
from psycopg.rows import dict_row

from embedfleet_schema.database import Database, Row
from embedfleet_schema.errors import BudgetSpent, UnknownJob
from embedfleet_schema.money import budget_of, money
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters, locks, reconciliation, usage, workers
from embedfleet_schema.turns import ANY_TURN, Lane, Turn
from embedfleet_schema.types import CollectionInfo, Delivery, Queue

_SQL = load("jobs")
_STATUS = _SQL["status"].format(alive=workers.ALIVE)

JobKind = Literal["enqueue", "repair", "retry", "template", "migrate"]
JobState = Literal["loading", "running", "paused", "interrupted", "cancelled", "done"]

# A producer that does not say for so long that it lives is taken for dead.
LOADING_SECONDS = 60.0
INTERRUPTED: dict[JobKind, str] = {
    "enqueue": "its producer stopped before the end; to finish, enqueue the same documents again",
    "repair": "it stopped before the end; to finish: embedfleet audit {name} --repair",
    "retry": "it stopped before the end; to finish: embedfleet retry {name}",
    "template": "it stopped before the end; to finish, set the template of {name} again",
    "migrate": "it stopped before the end; to finish, run embedfleet collection migrate again",
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands.

    `chunks` counts the chunks of its documents; of their distinct texts, `reused` had a vector
    already, `queued` wait or are being embedded, `embedded` got a vector, `failed` have a failure.
    What was deleted or cancelled before it had a vector is in none of these. `awaited` are texts
    that other jobs had queued already: `queued` until the last of their batches ends, then
    `embedded`.
    Rates look back at most 30 seconds; `eta_seconds` is None while there is no rate. While it is
    paused, `resume` is what `embedfleet resume` takes: its number, or its model if that is paused.
    `spent_usd` is None where nothing was paid, or no price is known. Of a budget, `reserved_usd` is
    kept for what is under way, and `unsettled_usd` for calls that were under way when their worker
    was lost. `over_budget`: it is paused because its budget pays for no more, or cannot be reckoned
    with; `reason` says what to do.

    A mirror has `deleted` documents that are gone from its source; `undeleted` says why not more.

    It is `loading` while its producer still reads, and `interrupted` where that stopped before the
    end: the caller's source raised, the call was cancelled, or the process died. What it stored is
    embedded all the same.
    """

    id: int
    kind: JobKind
    collection: str
    queue: Queue
    state: JobState
    documents: int
    unchanged: int
    rejected: int
    chunks: int
    reused: int
    awaited: int
    queued: int
    embedded: int
    failed: int
    chunks_per_second: float
    tokens_per_second: float
    eta_seconds: float | None
    elapsed_seconds: float
    created_at: datetime
    reason: str | None
    resume: str | None
    budget_usd: float | None
    spent_usd: float | None
    reserved_usd: float
    unsettled_usd: float
    over_budget: bool
    lane: Lane
    tenant: str
    deleted: int
    undeleted: str | None

    @property
    def finished(self) -> bool:
        return self.state in ("done", "cancelled") or (
            self.state == "interrupted" and not self.queued
        )

    @property
    def total(self) -> int:
        """Distinct texts that the job queued, or that failed as it was made; less those that were
        deleted or cancelled before they had a vector.
        """
        return self.queued + self.embedded + self.failed


@dataclass(frozen=True, slots=True)
class Tally:
    """What one window adds to a job's counts."""

    documents: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    reused: int = 0
    failed: int = 0
    awaited: int = 0


def create(
    conn: Connection[Any],
    collection: CollectionInfo,
    kind: JobKind,
    *,
    budget_usd: float | Decimal | None = None,
    delivery: Delivery = "direct",
    turn: Turn = ANY_TURN,
    loading_seconds: float = LOADING_SECONDS,
    traceparent: str | None = None,
) -> int:
    """A new job; one with a budget is paused when that is spent. What is queued again is bulk,
    unless its turn says otherwise.

    Its producer says within `loading_seconds` that it lives (`still_loading`), or that it has
    handed over everything. `traceparent` is the trace that it belongs to.
    """
    by_size = turn.lane is None and kind == "enqueue"
    values = {
        "tenant": turn.tenant,
        "lane": turn.lane or ("interactive" if by_size else "bulk"),
        "lane_by_size": by_size,
        "collection_id": collection.id,
        "kind": kind,
        "budget_usd": budget_of(budget_usd),
        "delivery": delivery,
        "loading_seconds": loading_seconds,
        "traceparent": traceparent,
    }
    row = conn.execute(_SQL["create"], values).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    return int(row[0])


def count(conn: Connection[Any], job_id: int, tally: Tally) -> None:
    values = {name: getattr(tally, name) for name in Tally.__dataclass_fields__}
    conn.execute(_SQL["count"], values | {"job_id": job_id})


def loaded(conn: Connection[Any], job_id: int) -> None:
    """The producer has handed over everything."""
    conn.execute(_SQL["loaded"], {"job_id": job_id})


def still_loading(conn: Connection[Any], job_id: int, *, loading_seconds: float) -> None:
    """The producer lives, and has not handed over everything yet."""
    conn.execute(_SQL["still_loading"], {"job_id": job_id, "loading_seconds": loading_seconds})


def interrupted(conn: Connection[Any], job_id: int) -> None:
    """The producer stops before it has handed over everything."""
    conn.execute(_SQL["interrupted"], {"job_id": job_id})


def status(db: Database, job_id: int) -> JobStatus:
    """Where a job stands now.

    Raises:
        UnknownJob: there is none of this id.
    """
    found = statuses(db, [job_id])
    if not found:
        raise UnknownJob(job=job_id)
    return found[0]


def statuses(db: Database, job_ids: Sequence[int]) -> list[JobStatus]:
    """The same of several, in their order; those that are gone are left out."""
    with db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        found = {r["id"]: _status(r) for r in cursor.execute(_STATUS, {"jobs": list(job_ids)})}
    return [found[job_id] for job_id in job_ids if job_id in found]


def collection_of(db: Database, job_id: int) -> int | None:
    """The id of the collection of a job; None where there is no such job."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["collection_of"], {"job_id": job_id}).fetchone()
        return None if row is None else int(row[0])


def latest(db: Database, *, limit: int = 20, collection_id: int | None = None) -> list[int]:
    """Job ids: those that still run first, then the newest."""
    with db.transaction() as conn:
        statement = _SQL["latest"].format(of_jobs=counters.OF_JOBS)
        rows = conn.execute(statement, {"limit": limit, "collection_id": collection_id})
        return [job_id for (job_id,) in rows]


def pause(db: Database, job_id: int) -> None:
    """Hold what waits of a job; one that is finished stays what it is."""
    _pause_or_cancel(db, job_id, "pause")


def resume(db: Database, job_id: int, *, budget_usd: float | Decimal | None = None) -> None:
    """Let a paused job go on, with a new budget if one is given.

    What waits for a space that is paused stays held.

    Raises:
        BudgetSpent: it would be paused again at once.
    """
    values = {"job_id": job_id, "budget_usd": budget_of(budget_usd)}
    with db.transaction() as conn:
        locks.own_job(conn, job_id)
        row = conn.execute(_of("resume"), values).fetchone()
        if row is None:
            raise UnknownJob(job=job_id)
        budget, unsettled, unfinished = row
        spent = usage.spent_on(conn, job_id) + unsettled
        if unfinished and budget is not None and spent >= budget:
            raise BudgetSpent(job=job_id, spent=money(spent), budget=money(budget))
    reconciliation.reconcile(db)


def cancel(db: Database, job_id: int) -> None:
    """Stop a job: what is embedded stays, what is under way is stored, and one that is finished
    stays what it is.
    """
    _pause_or_cancel(db, job_id, "cancel")


def _of(statement: str) -> sql.Composed:
    """A statement that asks whether a job is unfinished."""
    return _SQL[statement].format(unfinished=_SQL["unfinished"])


def _pause_or_cancel(db: Database, job_id: int, statement: str) -> None:
    with db.transaction() as conn:
        locks.own_job(conn, job_id)
        conn.execute(_of(statement), {"job_id": job_id})
    reconciliation.reconcile(db)


def _status(row: Row) -> JobStatus:
    state = _state(row)
    rate = float(row["tokens_per_second"])
    running = state in ("running", "loading", "interrupted") and rate > 0
    is_over = state in ("done", "cancelled") or (state == "interrupted" and not _waits(row))
    ended = row["finished_at"] if is_over else row["now"]
    handed_over = row["loaded_at"] or row["interrupted_at"] or row["created_at"]
    end = max(ended or row["created_at"], handed_over)
    waits = row["awaited_job"] is not None
    came = not waits and state != "cancelled"
    return JobStatus(
        id=row["id"],
        kind=row["kind"],
        collection=row["collection"],
        queue=row["queue"],
        state=state,
        documents=row["documents"],
        unchanged=row["unchanged"],
        rejected=row["rejected"],
        chunks=row["chunks"],
        reused=row["reused"],
        awaited=row["awaited"],
        queued=int(row["queued"]) + (row["awaited"] if waits else 0),
        embedded=int(row["embedded"]) + (row["awaited"] if came else 0),
        failed=int(row["failed"]),
        chunks_per_second=float(row["chunks_per_second"]),
        tokens_per_second=rate,
        eta_seconds=float(row["open_tokens"]) / rate if running else None,
        elapsed_seconds=max(0.0, (end - row["created_at"]).total_seconds()),
        created_at=row["created_at"],
        reason=_reason(row, state) or row["undeleted"],
        resume=_resume(row) if state == "paused" else None,
        budget_usd=row["budget_usd"],
        spent_usd=row["spent_usd"],
        reserved_usd=row["reserved_usd"],
        unsettled_usd=row["unsettled_usd"],
        # A person who pauses a job gives no reason.
        over_budget=state == "paused" and row["pause_reason"] is not None,
        lane=row["lane"],
        tenant=row["tenant"],
        deleted=row["deleted"],
        undeleted=row["undeleted"],
    )


def _reason(row: Row, state: JobState) -> str | None:
    """Why it stands still, or what its batches wait for."""
    if state == "paused" and row["space_paused_at"] is not None:
        code, reason = row["space_pause_code"], row["space_pause_reason"]
        return f"{row['model']} is paused ({code}): {reason}"
    if state == "paused" and row["pause_reason"] is not None:
        return str(row["pause_reason"])
    if state == "interrupted":
        return INTERRUPTED[row["kind"]].format(name=row["collection"])
    if row["filed_batches"] and row["filed_batches"] == row["leased_batches"]:
        since = f"{row['filed_at'].astimezone():%Y-%m-%d %H:%M}"
        return f"filed with the provider's batch API since {since}, answers come within 24 h"
    if row["awaited_job"] is not None and not row["open_batches"]:
        return f"its texts wait in batches of job {row['awaited_job']}"
    return row["worker_reason"] or (None if row["leased_batches"] else row["waiting_reason"])


def _waits(row: Row) -> bool:
    """Whether something is still to be embedded for it, by batches of its own or of others."""
    return bool(row["open_batches"]) or row["awaited_job"] is not None


def _resume(row: Row) -> str:
    return str(row["id"] if row["space_paused_at"] is None else row["model"])


def _state(row: Row) -> JobState:
    if row["cancelled_at"] is not None:
        return "cancelled"
    handed_over, interrupted = (row[each] is not None for each in ("loaded_at", "interrupted_at"))
    if handed_over and not _waits(row):
        return "done"
    standing_still = row["paused_at"] is not None or row["space_paused_at"] is not None
    if standing_still and (_waits(row) or not interrupted):
        return "paused"
    if interrupted:
        return "interrupted"
    return "running" if handed_over else "loading"
