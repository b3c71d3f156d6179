"""The batches as a worker sees them: claim, heartbeat, and what becomes of a lease.

Each way out of it starts with the fence, and is a step of `store.transitions`; the sweep
(`store.sweep`) takes those whose worker does not come back.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.statements import load
from embedfleet_schema.store import (
    budgets,
    claims,
    documents,
    reconciliation,
    reuse,
    spaces,
    usage,
)
from embedfleet_schema.store.budgets import SkippedJobs
from embedfleet_schema.store.claims import PriceOf
from embedfleet_schema.store.leases import Lease
from embedfleet_schema.store.settlement import Settlement, fenced, finish, settling
from embedfleet_schema.store.transitions import Best
from embedfleet_schema.store.usage import Spending
from embedfleet_schema.store.vector_rows import Insert, insert
from embedfleet_schema.turns import LANES, PRIORITIES, Lane
from embedfleet_schema.types import Queue

__all__ = ["Batches", "Lease"]

log = logging.getLogger(__name__)

_SQL = load("batches")

STOPPED = "its job was paused or cancelled while it was claimed"


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
        self._skipped = SkippedJobs()

    def claim(
        self,
        queue: Queue,
        *,
        lanes: Sequence[Lane] = LANES,
        excluding: Sequence[int] = (),
        price_of: PriceOf = lambda _: None,
    ) -> Lease | None:
        """Lease the best pending batch of `queue` in these lanes, of no space of `excluding`; None
        where there is nothing to do.

        A batch with texts that another worker is just embedding is put back for a second: when its
        turn comes they have vectors, and nothing is embedded twice. A batch of what was paused or
        cancelled a moment ago is put where it belongs. Of a job with a budget, what the batch may
        cost by `price_of` is reserved, or it is not leased: see `store.budgets`.
        """
        within = sorted(PRIORITIES[lane] for lane in lanes)
        values = self._claiming(queue) | {"first": within[0], "last": within[-1]}
        values["excluding"] = list(excluding)
        best: Best = "best_excluding" if excluding else "best"
        while True:
            try:
                with self._db.transaction() as conn:
                    claimed = claims.claim(conn, best, values, price_of, self._skipped)
            except psycopg.errors.LockNotAvailable:
                # Many reserve at once, or the collection is being dropped: nothing was claimed.
                log.info("nothing claimed: other workers hold the lock of a budget")
                return None
            if claimed is None or not claimed.stopped:
                return None if claimed is None else claimed.lease
            if claimed.short is not None:
                budgets.pause_unaffordable(self._db, claimed.short)
            self._release_stopped(claimed.lease)

    def claim_more(self, lease: Lease, queue: Queue) -> list[Lease]:
        """Lease batches of the same job that come next, for one who is through with a batch so
        soon that to claim it takes longer; none of a job with a budget.
        """
        with self._db.transaction() as conn:
            return claims.more(conn, lease, self._claiming(queue))

    def _claiming(self, queue: Queue) -> dict[str, Any]:
        return {"queue": queue, "owner": self._owner, "lease_seconds": self._lease_seconds}

    def _release_stopped(self, lease: Lease) -> None:
        """Not in the claim, which shares no lock: what is held there would miss a resumption."""
        with suppress(LeaseLost), self._settling(lease) as batch:
            batch.release(reason=STOPPED)

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

    def reuse(self, lease: Lease) -> Lease:
        """Copy the vectors that other collections of the space have; returns what is left to embed.

        Raises:
            LeaseLost: the batch went to somebody else; nothing was written.
        """
        if not (lease.others and lease.text_ids):
            return lease
        try:
            with self._settling(lease) as batch:
                copied = reuse.copy(batch.conn, lease.collection, lease.text_ids, lease.others)
                batch.store(len(copied), usd=0)
        except psycopg.errors.UndefinedTable:
            # One of them was dropped at this moment: what it had is embedded.
            return lease
        left = [row for row, text_id in enumerate(lease.text_ids) if text_id not in copied]
        return lease.only(left)

    def commit(
        self, lease: Lease, matrix: NDArray[np.float32], spent: Spending | None = None
    ) -> None:
        """Store `matrix` (len(lease.text_ids), dimensions), take documents live, close the batch.

        Raises:
            LeaseLost: the batch went to somebody else; nothing was written.
        """
        with self._settling(lease) as batch:
            inserted = insert(self._db, batch.conn, lease.collection, lease.text_ids, matrix)
            batch.finish("done", inserted=inserted)
            self._enter(batch.conn, lease, spent)
            self._failpoints.hit("before_commit")
        self._pause_if_spent(lease, batch, spent)

    def commit_several(
        self, leases: Sequence[Lease], matrix: NDArray[np.float32]
    ) -> Collection[int]:
        """`commit` of batches of one job without a budget, in one transaction: row i of `matrix`
        belongs to the i-th of all their texts. Returns the ids of those that still were ours; of
        the others nothing was written.
        """
        try:
            return self._commit_several(leases, matrix, "insert_new_vectors")
        except psycopg.errors.UniqueViolation:
            # Another batch had one of their texts, too.
            return self._commit_several(leases, matrix, "insert_vectors")

    def _commit_several(
        self, leases: Sequence[Lease], matrix: NDArray[np.float32], statement: Insert
    ) -> Collection[int]:
        collection = leases[0].collection
        with self._db.transaction() as conn:
            held = fenced(conn, leases)
            of_row = [(each, lease.id) for lease in leases for each in lease.text_ids]
            rows = [row for row, (_, batch_id) in enumerate(of_row) if batch_id in held]
            rows.sort(key=of_row.__getitem__)
            text_ids = [of_row[row][0] for row in rows]
            inserted = insert(self._db, conn, collection, text_ids, matrix[rows], statement)
            replaced = documents.go_live(conn, collection, list(chain(*held.values())))
            whole = inserted == len(text_ids)
            kept = {lease.id: len(lease.text_ids) for lease in leases if lease.id in held}
            stored = kept if whole else dict.fromkeys(kept, 0)
            finish(conn, collection, stored, vectors=inserted)
            self._failpoints.hit("before_commit")
        documents.prune(self._db, collection, replaced)
        return held

    def store(
        self,
        lease: Lease,
        rows: Sequence[int],
        matrix: NDArray[np.float32],
        spent: Spending | None = None,
    ) -> bool:
        """Store the vectors of some texts of the lease, which goes on.

        What is stored now is not embedded again, whatever becomes of the batch. Returns whether
        the job wants more: False where it or its space was paused, or it was cancelled.

        Raises:
            LeaseLost: the batch went to somebody else; nothing was written.
        """
        part = lease.only(rows)
        with self._settling(lease) as batch:
            inserted = insert(self._db, batch.conn, lease.collection, part.text_ids, matrix)
            batch.go_live(part.text_ids)
            batch.store(inserted, usd=(spent and spent.usd) or 0)
            self._enter(batch.conn, lease, spent)
        return not self._pause_if_spent(lease, batch, spent) and batch.standing == "pending"

    def spend(self, lease: Lease, spent: Spending) -> None:
        """Enter what was paid for an answer that could not be stored."""
        with self._db.transaction() as conn:
            budgets.settle(conn, lease, spent.usd)
            self._enter(conn, lease, spent)
            row = conn.execute(_SQL["has_budget"], {"job_id": lease.job_id}).fetchone()
        if row is not None and row[0]:
            usage.pause_if_spent(self._db, lease.job_id, spent)

    def defer(
        self, lease: Lease, *, delay_s: float, reason: str, keeps_place: bool = False
    ) -> None:
        """Put the batch back without a charge: somebody else asks us to wait.

        Where it keeps its place, nothing but the caller keeps it from being claimed at once: what
        it waits for is said in its reason.
        """
        with self._settling(lease) as batch:
            if keeps_place:
                batch.release(reason=reason, wait_s=delay_s)
            else:
                batch.release(reason=reason, delay_s=delay_s)

    def retry(self, lease: Lease, *, delay_s: float, reason: str) -> None:
        """Put the batch back and charge one error."""
        with self._settling(lease) as batch:
            batch.release(reason=reason, delay_s=delay_s, charge=1)

    def pause_space(self, lease: Lease, *, code: str, reason: str) -> None:
        """Put the batch back and hold all that waits for its space, until a person resumes it.

        Where the space is paused already, the first reason stays.
        """
        with self._settling(lease, pausing=True) as batch:
            batch.release(reason=f"{code}: {reason}")
            spaces.pause(batch.conn, lease.collection.space_id, code, reason)
        reconciliation.reconcile(self._db)

    def split(self, lease: Lease, *, reason: str) -> None:
        """Replace the batch by two halves of what has no vector yet."""
        with self._settling(lease) as batch:
            batch.split(reason)

    def fail(self, lease: Lease, *, code: str, reason: str) -> None:
        """Record a failure for the texts that still had no vector, and close the batch."""
        with self._settling(lease) as batch:
            batch.fail(lease.text_ids, code=code, reason=reason)

    @contextmanager
    def _settling(self, lease: Lease, *, pausing: bool = False) -> Iterator[Settlement]:
        with settling(self._db, lease, pausing=pausing) as batch:
            yield batch
        if batch.has_budget:
            self._skipped.end(lease.job_id)

    def _enter(self, conn: Connection[Any], lease: Lease, spent: Spending | None) -> None:
        if spent is not None:
            space_id = lease.collection.space_id
            usage.add(conn, space_id, spent, job_id=lease.job_id, worker_id=self._owner)

    def _pause_if_spent(self, lease: Lease, batch: Settlement, spent: Spending | None) -> bool:
        """Whether the job was paused for its budget's sake."""
        if not batch.has_budget or spent is None:
            return False
        return usage.pause_if_spent(self._db, lease.job_id, spent)
