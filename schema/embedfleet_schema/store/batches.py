"""The batch state machine: claim, heartbeat, and every way out of a lease.

    pending --claim--> leased --commit--> done
       ^                  |--defer, retry--> pending (held, cancelled: as its job stands)
       |                  |--split--> split, with two pending children
       |                  |--fail--> dead, with a failure per text
       '----- sweep: lease expired, crashes + 1 (see `store.sweep`)

Every way out starts with the fence: a row that is still leased under the attempt of this claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.statements import load
from embedfleet_schema.store import collections, documents
from embedfleet_schema.types import CollectionInfo, Queue
from embedfleet_schema.vectors import vector_array

_SQL = load("batches")

Open = Literal["pending", "held", "cancelled"]

OVERLAP_S = 1.0
OVERLAP_REASON = "another batch is just embedding some of its texts"


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed batch: `texts[i]` is what still needs a vector, `hashes[i]` its address.

    `attempt` fences every write; `errors` is how often the batch failed by its own fault before.
    """

    id: int
    attempt: int
    errors: int
    job_id: int
    collection: CollectionInfo
    tokens: int
    hashes: list[bytes]
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A lease whose row is locked: all texts of the batch, and where the job stands."""

    hashes: list[bytes]
    state: Open


class Batches:
    """The batches of one database, as one worker process sees them."""

    def __init__(
        self,
        db: Database,
        *,
        owner: UUID,
        lease_seconds: float,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._db = db
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._failpoints = failpoints or Failpoints()

    def claim(self, queue: Queue) -> Lease | None:
        """Lease the best pending batch of `queue`; None where there is nothing to do.

        A batch with texts that another worker is just embedding is put back for a second: when its
        turn comes they have vectors, and nothing is embedded twice.
        """
        with self._db.transaction() as conn:
            while True:
                row = conn.execute(
                    _SQL["claim"],
                    {"queue": queue, "owner": self._owner, "lease_seconds": self._lease_seconds},
                ).fetchone()
                if row is None:
                    return None
                lease = self._read(conn, row)
                if not self._leased_elsewhere(conn, lease):
                    return lease
                release(
                    conn, lease.id, "pending", delay_s=OVERLAP_S, charge=0, reason=OVERLAP_REASON
                )

    def _read(self, conn: Connection[Any], row: tuple[Any, ...]) -> Lease:
        batch_id, attempt, errors, job_id, collection_id, tokens, hashes = row
        collection = collections.by_id(conn, collection_id)
        missing = conn.execute(
            _SQL["missing_texts"].format(vectors=sql.Identifier(collection.vectors)),
            {"hashes": hashes, "collection_id": collection_id},
        ).fetchall()
        return Lease(
            id=batch_id,
            attempt=attempt,
            errors=errors,
            job_id=job_id,
            collection=collection,
            tokens=tokens * len(missing) // max(1, len(hashes)),
            hashes=[bytes(sha256) for sha256, _ in missing],
            texts=[content for _, content in missing],
        )

    def _leased_elsewhere(self, conn: Connection[Any], lease: Lease) -> bool:
        if not lease.hashes:
            return False
        values = {"id": lease.id, "collection_id": lease.collection.id, "hashes": lease.hashes}
        row = conn.execute(_SQL["texts_leased_elsewhere"], values).fetchone()
        return row is not None and bool(row[0])

    def heartbeat(self, leases: Sequence[tuple[int, int]], conn: Connection[Any]) -> set[int]:
        """Extend (id, attempt) leases; returns the ids that still stand."""
        rows = conn.execute(
            _SQL["heartbeat"],
            {
                "ids": [batch_id for batch_id, _ in leases],
                "attempts": [attempt for _, attempt in leases],
                "lease_seconds": self._lease_seconds,
            },
        )
        return {batch_id for (batch_id,) in rows}

    def commit(self, lease: Lease, matrix: NDArray[np.float32]) -> None:
        """Store `matrix` (len(lease.hashes), dimensions), take documents live, close the batch.

        Raises:
            LeaseLost: the batch went to somebody else; nothing was written.
        """
        space = lease.collection.space
        with self._leaving(lease) as (conn, fenced):
            if lease.hashes:
                vectors = sql.Identifier(lease.collection.vectors)
                texts = {"collection_id": lease.collection.id, "hashes": lease.hashes}
                rows = {"vectors": vector_array(matrix, space.storage, self._db.oids)}
                conn.execute(
                    _SQL["insert_vectors"].format(vectors=vectors), _named(lease) | texts | rows
                )
                conn.execute(_SQL["forget_cured"], texts)
            replaced = documents.go_live(conn, lease.collection, fenced.hashes)
            finish(conn, lease.id, "done")
            self._failpoints.hit("before_commit")
        documents.prune(self._db, lease.collection, replaced)

    def defer(self, lease: Lease, *, delay_s: float, reason: str) -> None:
        """Put the batch back without a charge: somebody else asks us to wait."""
        with self._leaving(lease) as (conn, fenced):
            release(conn, lease.id, fenced.state, delay_s=delay_s, charge=0, reason=reason)

    def retry(self, lease: Lease, *, delay_s: float, reason: str) -> None:
        """Put the batch back and charge one error."""
        with self._leaving(lease) as (conn, fenced):
            release(conn, lease.id, fenced.state, delay_s=delay_s, charge=1, reason=reason)

    def split(self, lease: Lease, *, reason: str) -> None:
        """Replace the batch by its two halves."""
        with self._leaving(lease) as (conn, fenced):
            split(conn, lease.id, fenced.state, reason)

    def fail(self, lease: Lease, *, code: str, reason: str) -> None:
        """Record a failure for the texts that still had no vector, and close the batch."""
        with self._leaving(lease) as (conn, _):
            replaced = fail(conn, lease.collection, lease.id, lease.hashes, code, reason)
        documents.prune(self._db, lease.collection, replaced)

    @contextmanager
    def _leaving(self, lease: Lease) -> Iterator[tuple[Connection[Any], Fenced]]:
        with self._db.transaction() as conn:
            documents.share(conn, lease.collection.id)
            row = conn.execute(_SQL["fence"], _named(lease)).fetchone()
            if row is None:
                raise LeaseLost(batch=lease.id, attempt=lease.attempt)
            hashes, paused, cancelled = row
            yield conn, Fenced(list(hashes), standing(paused=paused, cancelled=cancelled))


def standing(*, paused: bool, cancelled: bool) -> Open:
    """The state of an open batch of a job that is paused or cancelled."""
    if cancelled:
        return "cancelled"
    return "held" if paused else "pending"


def finish(conn: Connection[Any], batch_id: int, state: str, reason: str | None = None) -> None:
    conn.execute(_SQL["finish"], {"id": batch_id, "state": state, "reason": reason})


def release(
    conn: Connection[Any],
    batch_id: int,
    state: Open,
    *,
    delay_s: float | None,
    charge: int,
    reason: str,
) -> None:
    """Give a lease up; without a delay the batch keeps its place in the queue."""
    conn.execute(
        _SQL["release"],
        {
            "id": batch_id,
            "state": state,
            "delay_seconds": delay_s,
            "charge": charge,
            "reason": reason,
        },
    )


def split(conn: Connection[Any], batch_id: int, state: Open, reason: str) -> None:
    conn.execute(_SQL["insert_halves"], {"id": batch_id, "state": state})
    finish(conn, batch_id, "split", reason)


def fail(
    conn: Connection[Any],
    collection: CollectionInfo,
    batch_id: int,
    hashes: list[bytes],
    code: str,
    reason: str,
) -> list[int]:
    """Record failures and close the batch; returns documents whose old chunks may go now."""
    failed = conn.execute(
        _SQL["record_failure"].format(vectors=sql.Identifier(collection.vectors)),
        {"id": batch_id, "hashes": hashes, "code": code, "reason": reason},
    ).fetchall()
    replaced = documents.go_live(conn, collection, hashes)
    finish(conn, batch_id, "dead" if failed else "done", f"{code}: {reason}")
    return replaced


def _named(lease: Lease) -> dict[str, Any]:
    return {"id": lease.id, "attempt": lease.attempt}
