"""Paused spaces: nothing of them is embedded until a person says that it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UnknownModel
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters, locks, reconciliation
from embedfleet_schema.types import Queue

_SQL = load("spaces")


@dataclass(frozen=True, slots=True)
class PausedSpace:
    """A space that stands still; `held` counts the batches that wait for it."""

    id: int
    model: str
    paused_at: datetime
    code: str
    reason: str
    collections: list[str]
    held: int

    def __str__(self) -> str:
        since = f"{self.paused_at.astimezone():%Y-%m-%d %H:%M:%S}"
        return (
            f"{self.model} has been paused since {since} ({self.code}): {self.reason.rstrip('.')}"
        )


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `resume` found: the queues of the model's collections, whether any was paused."""

    queues: list[Queue]
    paused: bool


def pause(conn: Connection[Any], space_id: int, code: str, reason: str) -> None:
    """Pause a space that the caller owns; `reconciliation` does the rest, after the commit."""
    conn.execute(_SQL["pause"], {"space_id": space_id, "code": code, "reason": reason})


def paused(db: Database) -> list[PausedSpace]:
    """The spaces that are paused, the one that is so for the longest first."""
    with db.transaction() as conn:
        return _paused(conn, None)


def pause_of(conn: Connection[Any], space_id: int) -> PausedSpace | None:
    """One space, if it is paused."""
    return next(iter(_paused(conn, space_id)), None)


def resume(db: Database, model: str) -> Resumed:
    """Let the spaces of a model (`provider/model`) go on; jobs that are paused stay so.

    Raises:
        UnknownModel: no space has it.
    """
    with db.transaction() as conn:
        spaces = [space_id for (space_id,) in conn.execute(_SQL["named"], {"name": model})]
        if not spaces:
            raise UnknownModel(model=model)
        locks.own_spaces(conn, spaces)
        rows = conn.execute(_SQL["resume"], {"spaces": spaces}).fetchall()
        queues = [queue for (queue,) in conn.execute(_SQL["queues"], {"spaces": spaces})]
    reconciliation.reconcile(db)
    return Resumed(queues, paused=bool(rows))


def _paused(conn: Connection[Any], space_id: int | None) -> list[PausedSpace]:
    with conn.cursor(row_factory=class_row(PausedSpace)) as cursor:
        statement = _SQL["paused"].format(of_jobs=counters.OF_JOBS)
        return cursor.execute(statement, {"space_id": space_id}).fetchall()
