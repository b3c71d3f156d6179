"""Worker rows: who is alive, with how many slots, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters
from embedfleet_schema.types import Delivery, Queue

_SQL = load("workers")

# Batches of a queue that are put off, as far as they are counted.
DEFERRED = 5_000

# The condition of all statements, as {alive}, over a worker `w`.
ALIVE = _SQL["alive"]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What a worker process says of itself when it starts."""

    id: UUID
    hostname: str
    pid: int
    queues: list[Queue]
    slots: int
    device: str
    version: str
    heartbeat_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as the database knows it.

    `silent_s` is the time since its heartbeat, and `reason` why it claims nothing, if so.
    """

    id: UUID
    hostname: str
    pid: int
    queues: list[str]
    slots: int
    device: str
    version: str
    batches: int
    chunks: int
    tokens: int
    started_at: datetime
    last_seen: datetime
    silent_s: float
    is_alive: bool
    leased: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """The open batches of a queue by delivery; `tokens` are those that are still to be embedded.

    Of those that are `deferred`, 5,000 are counted at most; the others pass for ready.
    """

    queue: Queue
    delivery: Delivery
    ready: int
    deferred: int
    held: int
    leased: int
    tokens: int


def register(conn: Connection[Any], worker: WorkerIdentity) -> None:
    values = {name: getattr(worker, name) for name in WorkerIdentity.__dataclass_fields__}
    conn.execute(_SQL["register"], values)
    conn.execute(_SQL["forget"])


def beat(
    conn: Connection[Any],
    worker: WorkerIdentity,
    *,
    batches: int,
    chunks: int,
    tokens: int,
    reason: str | None = None,
) -> bool:
    """Say that the worker lives, on what, or why it claims nothing, and add to its counts; False
    where its row is gone.
    """
    identity = {"id": worker.id, "device": worker.device, "reason": reason}
    values = {**identity, "batches": batches, "chunks": chunks, "tokens": tokens}
    return conn.execute(_SQL["beat"], values).fetchone() is not None


def leave(conn: Connection[Any], worker_id: UUID) -> None:
    conn.execute(_SQL["leave"], {"id": worker_id})


def forget_dead(db: Database) -> int:
    """Remove the rows of workers that fell silent and hold nothing. One that was only cut off
    registers again with its next heartbeat.
    """
    with db.transaction() as conn:
        return conn.execute(_SQL["forget_dead"].format(alive=ALIVE)).rowcount


def recent(db: Database) -> list[WorkerInfo]:
    """Workers that have not signed off: those alive, and those that fell silent within the hour."""
    with db.transaction() as conn, conn.cursor(row_factory=class_row(WorkerInfo)) as cursor:
        return cursor.execute(_SQL["recent"].format(alive=ALIVE)).fetchall()


def count_alive(conn: Connection[Any], queue: str) -> int:
    """How many workers are there for `queue`."""
    row = conn.execute(_SQL["count_alive"].format(alive=ALIVE), {"queue": queue}).fetchone()
    return int(row[0]) if row else 0


def reason(conn: Connection[Any], queue: str) -> str | None:
    """Why a worker of `queue` claims nothing, if one does not."""
    row = conn.execute(_SQL["reason"].format(alive=ALIVE), {"queue": queue}).fetchone()
    return row[0] if row else None


def queues(db: Database) -> list[QueueInfo]:
    with db.transaction() as conn, conn.cursor(row_factory=class_row(QueueInfo)) as cursor:
        statement = _SQL["queues"].format(of_jobs=counters.OF_JOBS)
        return cursor.execute(statement, {"most": DEFERRED}).fetchall()
