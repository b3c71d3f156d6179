"""What `doctor` asks of a server and of queues, beyond what a fleet needs to work at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from embedfleet_schema.database import Database
from embedfleet_schema.session import Holder
from embedfleet_schema.statements import load
from embedfleet_schema.store.workers import ALIVE

_SQL = load("server_health")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`connections` are those that users may have, `connected` those that there are."""

    clock: datetime
    autovacuum: bool
    connections: int
    connected: int
    shared_memory_type: str
    maintenance_bytes: int
    parallel_workers: int


class Slot(NamedTuple):
    """A replication slot, and the bytes of the log that are kept for it."""

    name: str
    bytes: int


def facts(db: Database) -> ServerFacts:
    with db.connect() as conn, conn.cursor(row_factory=class_row(ServerFacts)) as cursor:
        [found] = cursor.execute(_SQL["facts"])
    return found


def needed_connections(db: Database) -> int:
    """The connections that the workers which are alive may open."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["needed_connections"].format(alive=ALIVE)).fetchone()
    return 0 if row is None else int(row[0])


def without_autovacuum(db: Database) -> list[str]:
    with db.transaction() as conn:
        return [str(name) for (name,) in conn.execute(_SQL["without_autovacuum"])]


def old_transactions(db: Database, *, seconds: float) -> list[Holder]:
    with db.transaction() as conn:
        rows = conn.execute(_SQL["old_transactions"], {"seconds": seconds})
        return [Holder(*row) for row in rows]


def unused_slots(db: Database) -> list[Slot]:
    with db.transaction() as conn:
        return [Slot(name, int(bytes_)) for name, bytes_ in conn.execute(_SQL["unused_slots"])]


def ready_seconds(db: Database, queue: str) -> float | None:
    """For how long batches of a queue have been ready, if some are."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["ready_seconds"], {"queue": queue}).fetchone()
    return None if row is None else row[0]
