"""The locks of a collection and of its space, held to the end of a transaction.

Whoever adds chunks, batches or vectors, or moves a batch on, shares the collection. Whoever removes
chunks or vectors owns it, and so does who pauses, resumes or cancels a job: so nobody relies on a
vector that is about to be removed, or on a job that is about to be paused. All of them share the
space, and who pauses or resumes it owns it: as if he owned each of its collections, with one lock
for any number. They are taken first in a transaction, the space before the collection, and several
in the order of their numbers. Before both, whoever stores or removes documents shares a lock that
holds them back while a collection changes its model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from embedfleet_schema.database import (
    LOCK_SPACE,
    MODEL_LOCK_SPACE,
    REPAIR_LOCK_SPACE,
    WRITE_LOCK_SPACE,
    Database,
)
from embedfleet_schema.errors import UnknownJob
from embedfleet_schema.statements import load

_SQL = load("locks")
_KINDS = {
    "spaces": MODEL_LOCK_SPACE,
    "collections": LOCK_SPACE,
    "repairs": REPAIR_LOCK_SPACE,
    "writes": WRITE_LOCK_SPACE,
}

WAIT_AT_MOST = _SQL["wait_at_most"]

# How long a round waits for one collection: a sweep's own transaction stands idle meanwhile, and
# must not do so for a minute.
PATIENCE_S = 5.0
# What is left for each of the others: enough for all but those who hold a lock for long.
LEAST_MS = 20.0


class ShortWaits:
    """A database for one round of work, which is done again soon: for some seconds it waits for
    locks, for as long as is left of them, and then hardly at all.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._until = time.monotonic() + PATIENCE_S

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """One transaction; raises LockNotAvailable where a lock is not to be had in time."""
        left_ms = max(LEAST_MS, (self._until - time.monotonic()) * 1e3)
        with self._db.transaction(name_holders=False) as conn:
            conn.execute(_SQL["wait_at_most"], {"milliseconds": f"{left_ms:.0f}"})
            yield conn


def share(conn: Connection[Any], collection_id: int) -> None:
    conn.execute(_SQL["share"], _KINDS | {"collection_id": collection_id})


def own(conn: Connection[Any], collection_id: int) -> None:
    conn.execute(_SQL["own"], _KINDS | {"collection_id": collection_id})


def own_all(conn: Connection[Any], ids: Sequence[int]) -> None:
    """Own several collections."""
    values = _KINDS | {"ids": list(ids)}
    conn.execute(_SQL["share_spaces_of"], values)
    conn.execute(_SQL["own_all"], values)


def share_to_write(conn: Connection[Any], collection_id: int) -> None:
    """Share a collection to store documents in it: nobody may hold those back meanwhile."""
    conn.execute(_SQL["share_writes"], _KINDS | {"collection_id": collection_id})
    share(conn, collection_id)


def own_to_write(conn: Connection[Any], collection_id: int) -> None:
    """Own a collection to remove documents from it: the same."""
    conn.execute(_SQL["share_writes"], _KINDS | {"collection_id": collection_id})
    own(conn, collection_id)


def hold_writes(conn: Connection[Any], collection_id: int) -> None:
    """Let who stores or removes documents wait; workers go on with what is there."""
    conn.execute(_SQL["hold_writes"], _KINDS | {"collection_id": collection_id})


def own_job(conn: Connection[Any], job_id: int) -> None:
    """Own the collection of a job.

    Raises:
        UnknownJob: there is none of this id.
    """
    if conn.execute(_SQL["own_job"], _KINDS | {"job_id": job_id}).fetchone() is None:
        raise UnknownJob(job=job_id)


def own_spaces(conn: Connection[Any], spaces: Sequence[int]) -> None:
    """Own some spaces with all their collections, and those that are made in them meanwhile."""
    conn.execute(_SQL["own_spaces"], _KINDS | {"ids": list(spaces)})


def own_space_of_provider_batch(conn: Connection[Any], provider_batch_id: int) -> None:
    """Own the space of a provider batch, whose batches may be of any number of collections."""
    conn.execute(
        _SQL["own_space_of_provider_batch"], _KINDS | {"provider_batch_id": provider_batch_id}
    )


def repair_alone(conn: Connection[Any], collection_id: int) -> None:
    """Make others wait who look for texts to be queued again, and nobody else."""
    conn.execute(_SQL["repair_alone"], _KINDS | {"collection_id": collection_id})
