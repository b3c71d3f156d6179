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
from embedfleet_schema.types import Queue

_SQL = load("workers")

# Three missed heartbeats: the sweeper no longer counts on such a worker either.
ALIVE_SECONDS = 45.0


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


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as the database knows it; `silent_s` is the time since its heartbeat."""

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
    leased: int

    @property
    def is_alive(self) -> bool:
        return self.silent_s < ALIVE_SECONDS


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """The open batches of a queue; `tokens` is the sum over all of them."""

    queue: str
    ready: int
    deferred: int
    held: int
    leased: int
    tokens: int


def register(conn: Connection[Any], worker: WorkerIdentity) -> None:
    values = {name: getattr(worker, name) for name in WorkerIdentity.__dataclass_fields__}
    conn.execute(_SQL["register"], values)
    conn.execute(_SQL["forget"])


def beat(conn: Connection[Any], worker_id: UUID, *, batches: int, chunks: int, tokens: int) -> bool:
    """Say that the worker lives and add to its counts; False where its row is gone."""
    values = {"id": worker_id, "batches": batches, "chunks": chunks, "tokens": tokens}
    return conn.execute(_SQL["beat"], values).fetchone() is not None


def leave(conn: Connection[Any], worker_id: UUID) -> None:
    conn.execute(_SQL["leave"], {"id": worker_id})


def list_alive(db: Database) -> list[WorkerInfo]:
    """Workers that have not signed off and were heard within the hour, silent ones included."""
    with db.connection() as conn, conn.cursor(row_factory=class_row(WorkerInfo)) as cursor:
        return cursor.execute(_SQL["list"]).fetchall()


def queues(db: Database) -> list[QueueInfo]:
    with db.connection() as conn, conn.cursor(row_factory=class_row(QueueInfo)) as cursor:
        return cursor.execute(_SQL["queues"]).fetchall()
