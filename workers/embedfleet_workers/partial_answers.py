"""Answers that arrive one by one: each is checked, stored and entered in the ledger at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.claims import PriceOf
from embedfleet_schema.store.usage import Spending, spending
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.embedders.protocol import EmbedsInParts, Part
from embedfleet_workers.embedding_errors import BadAnswer, JobPausedOrCancelled
from embedfleet_workers.heartbeat import ActiveLease
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)


class RetryWrite(Protocol):
    """Writes to the database, again after it was away, as long as the lease stands."""

    def __call__(self, active: ActiveLease, write: Callable[[], bool]) -> bool: ...


class PartialAnswers:
    """Takes a lease through an embedder that answers in parts."""

    def __init__(
        self, batches: Batches, retry_write: RetryWrite, price_of: PriceOf, failpoints: Failpoints
    ) -> None:
        self._batches = batches
        self._retry_write = retry_write
        self._price_of = price_of
        self._failpoints = failpoints

    def take(self, active: ActiveLease, embedder: EmbedsInParts) -> None:
        """Store every answer; the last one closes the batch.

        `active.lease` is narrowed to what is left, so that whoever settles an error speaks of no
        text that is stored. An answer that was not asked for is raised after the others have come:
        they are paid for.

        Raises:
            BadAnswer: some texts have no answer, or two.
            LeaseLost: the batch went to somebody else; what was not sent yet is taken back.
            JobPausedOrCancelled: the rest is not wanted for now, and was not sent.
        """
        lease = active.lease
        left = set(range(len(lease.texts)))
        confused, wanted = False, True
        with _left_early(_parts(lease, embedder, lambda: wanted)) as answers:
            for part in answers:
                spent = self._spent(lease, part)
                if not part.rows:
                    self._enter(lease, spent)
                    continue
                if not _answers_some(part, left):
                    self._enter(lease, spent)
                    confused = True
                    continue
                rest = left.difference(part.rows)
                wanted &= self._store(active, lease, part, spent, last=not rest)
                left = rest
                active.lease = lease.only(sorted(left))
                self._failpoints.hit("after_part")
        if confused:
            raise BadAnswer(reason="it answered texts that it was not sent, or one text twice")
        if left and not wanted:
            raise JobPausedOrCancelled
        if left:
            raise BadAnswer(reason=f"no answer to {len(left)} of {len(lease.texts)} texts")

    def _store(
        self, active: ActiveLease, lease: Lease, part: Part, spent: Spending, *, last: bool
    ) -> bool:
        """Each is one transaction with what it cost, so a batch of one answer is one in all.

        Returns whether the job wants more.
        """
        write = self._commit if last else self._keep
        try:
            return self._retry_write(active, lambda: write(lease, part, spent))
        except BaseException:
            # It was paid for all the same. Where a lost connection hid that the transaction had
            # gone through, it is entered twice: rather that than a bill that nobody expects.
            self._enter(lease, spent)
            raise

    def _commit(self, lease: Lease, part: Part, spent: Spending) -> bool:
        self._batches.commit(lease.only(part.rows), part.vectors, spent)
        return True

    def _keep(self, lease: Lease, part: Part, spent: Spending) -> bool:
        return self._batches.store(lease, part.rows, part.vectors, spent)

    def _spent(self, lease: Lease, part: Part) -> Spending:
        return spending(
            requests=part.spent.requests,
            texts=len(part.rows),
            tokens=part.spent.tokens,
            price=self._price_of(lease.collection.space.name),
        )

    def _enter(self, lease: Lease, spent: Spending) -> None:
        """Once and not again: the ledger is not worth a worker that waits."""
        try:
            self._batches.spend(lease, spent)
        except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
            log.warning("batch %d: %s is not in the ledger: %s", lease.id, spent, describe(error))


def _parts(lease: Lease, embedder: EmbedsInParts, wanted: Callable[[], bool]) -> Iterator[Part]:
    """The answers; of a job with a budget, within what is reserved for the lease."""
    allowance = UNLIMITED if lease.bounds is None else Allowance(lease.bounds)
    return embedder.parts(lease.texts, "document", wanted, allowance, lease.lane)


def _answers_some(part: Part, left: set[int]) -> bool:
    """Whether it has a vector for each of its rows, and each of these waits for one."""
    rows = set(part.rows)
    return len(rows) == len(part.rows) == len(part.vectors) and rows <= left


@contextmanager
def _left_early(answers: Iterator[Part]) -> Iterator[Iterator[Part]]:
    """Close the iteration however it is left: that takes back what was not sent yet."""
    try:
        yield answers
    finally:
        close = getattr(answers, "close", None)
        if close is not None:
            close()
