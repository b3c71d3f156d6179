"""One batch from claim to commit. Knows neither Celery nor Redis; nothing escapes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.database_errors import DatabaseUnreachable, SchemaNewer
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.claims import PriceOf
from embedfleet_schema.turns import Lane
from embedfleet_schema.types import CollectionInfo, Queue
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.decisions import (
    DISK_FULL_S,
    Decision,
    Defer,
    Discard,
    Fail,
    Pause,
    Retry,
    Split,
    cooling_s,
    decide,
)
from embedfleet_workers.embedders.checks import no_vectors
from embedfleet_workers.embedders.protocol import Embedder, EmbedsInParts, Vectors
from embedfleet_workers.heartbeat import ActiveLease, Heartbeat
from embedfleet_workers.lanes import LaneTurn, LaneTurns
from embedfleet_workers.partial_answers import PartialAnswers
from embedfleet_workers.reasons import describe, unquoted
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

Written = TypeVar("Written")

# How often a commit is tried again while the database is away; the lease ends it sooner.
RECONNECT_S = 2.0
# Where a batch is embedded in less than the first and committed in less than the second, several
# are taken at once: to claim one takes a good part of it. All of them are embedded again where
# their worker dies, so that what it costs to embed them has to be next to nothing. A commit into an
# HNSW index takes longer.
QUICK_EMBED_S, QUICK_COMMIT_S = 0.02, 0.05

# The server is there, but has no room: waiting with a lease in hand makes none.
_SHORT = (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory)
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, DatabaseUnreachable)


class Outcome(StrEnum):
    """What became of a batch, or why none was taken."""

    IDLE = "idle"
    DONE = "done"
    RETRY = "retry"
    DEFER = "defer"
    SPLIT = "split"
    FAIL = "fail"
    STOPPED = "stopped"
    LOST = "lost"
    PAUSED = "paused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What happened to one batch; times in seconds. Observers get one for each claim.

    Where answers are stored as they arrive, `embed_s` is the time of both. `waited_s` is how old it
    was when it was claimed, and `traceparent` the trace of its job.
    """

    batch: int
    queue: Queue
    space: str
    outcome: Outcome
    texts: int
    tokens: int
    claim_s: float
    embed_s: float
    commit_s: float
    job: int = 0
    lane: Lane = "bulk"
    waited_s: float = 0.0
    traceparent: str | None = None


class Pipeline:
    """Claims, embeds and commits batches of any queue, one per call."""

    def __init__(
        self,
        batches: Batches,
        embedder_for: Callable[[CollectionInfo, Queue], Embedder],
        heartbeat: Heartbeat,
        *,
        max_attempts: int,
        observe: Callable[[BatchStats], None],
        failpoints: Failpoints | None = None,
        disk: Breaker | None = None,
        cooling: Cooling | None = None,
        lanes: LaneTurns | None = None,
        price_of: PriceOf = lambda _: None,
        newer_tables: Callable[[SchemaNewer], object] = lambda _: None,
    ) -> None:
        self._batches = batches
        self._embedder_for = embedder_for
        self._heartbeat = heartbeat
        self._max_attempts = max_attempts
        self._observe = observe
        self._failpoints = failpoints or Failpoints()
        self._disk = disk or Breaker(DISK_FULL_S)
        self._cooling = cooling or Cooling()
        self._lanes = lanes or LaneTurns()
        self._price_of = price_of
        self._newer_tables = newer_tables
        self._quick: set[int] = set()  # the collections whose last batch was
        self._parts = PartialAnswers(batches, self._retry_write, price_of, self._failpoints)

    def run_one(self, queue: Queue) -> Outcome:
        """Take one batch of `queue` through; says what became of it and never raises.

        BaseException is caught on purpose: MemoryError, SystemExit or KeyboardInterrupt that leaves
        a Celery task kills or wedges the pool's slot, and the batch would wait for its lease.
        """
        if not self._disk.admits():
            return Outcome.PAUSED
        with self._lanes.turn(queue) as turn:
            return self._take_turn(queue, turn)

    def _take_turn(self, queue: Queue, turn: LaneTurn) -> Outcome:
        started = time.monotonic()
        try:
            lease = self._claim(queue, turn)
        except BaseException as error:  # noqa: BLE001 - see run_one
            self._note(error)
            log.error("cannot claim from queue %s: %s", queue, describe(error))  # noqa: TRY400
            return Outcome.UNREACHABLE
        if lease is None:
            return Outcome.IDLE
        leases = [lease, *self._claim_more(lease, queue)]
        claim_s = (time.monotonic() - started) / len(leases)
        with ExitStack() as kept:
            active = [kept.enter_context(self._heartbeat.keeping(each)) for each in leases]
            if len(active) > 1 and self._process_together(leases, queue, claim_s):
                return Outcome.DONE
            return [self._process(each, queue, claim_s) for each in active][-1]

    def _claim(self, queue: Queue, turn: LaneTurn) -> Lease | None:
        for lanes, excluding in turn.tries(self._cooling.spaces):
            lease = self._batches.claim(
                queue, lanes=lanes, excluding=excluding, price_of=self._price_of
            )
            if lease is not None:
                turn.took(lease.lane)
                return lease
        return None

    def _claim_more(self, lease: Lease, queue: Queue) -> list[Lease]:
        if lease.collection.id not in self._quick or lease.others or lease.errors:
            return []
        try:
            return self._batches.claim_more(lease, queue)
        except BaseException as error:  # noqa: BLE001 - see run_one
            self._note(error)
            log.warning("batch %d is taken alone: %s", lease.id, describe(error))
            return []

    def _process_together(self, leases: Sequence[Lease], queue: Queue, claim_s: float) -> bool:
        """Embed and commit batches of one collection at once. False where that went wrong: then
        each is to be taken through by itself, and meets with what is its own.
        """
        started = time.monotonic()
        try:
            self._failpoints.hit("after_claim")
            texts = [text for lease in leases for text in lease.texts]
            vectors = self._embedder_for(leases[0].collection, queue).embed(texts, "document")
            embedded = time.monotonic()
            self._failpoints.hit("after_embed")
            held = self._batches.commit_several(leases, vectors)
            self._disk.close()
            self._failpoints.hit("after_commit_before_ack")
        except BaseException as error:  # noqa: BLE001 - see run_one
            self._quick.discard(leases[0].collection.id)
            log.warning("%d batches: %s -> one by one", len(leases), describe(error))
            return False
        embed_s = (embedded - started) / len(leases)
        commit_s = (time.monotonic() - embedded) / len(leases)
        self._note_pace(leases[0], embed_s, commit_s)
        for lease in leases:
            outcome = Outcome.DONE if lease.id in held else Outcome.LOST
            self._report(lease, queue, outcome, (claim_s, embed_s, commit_s))
        return True

    def _process(self, active: ActiveLease, queue: Queue, claim_s: float) -> Outcome:
        started = embedded = time.monotonic()
        lease, outcome = active.lease, Outcome.DONE
        try:
            self._failpoints.hit("after_claim")
            vectors = self._embed(active, queue)
            embedded = time.monotonic()
            if vectors is not None:
                self._commit(active, vectors)
                self._note_pace(lease, embedded - started, time.monotonic() - embedded)
            self._disk.close()
            self._failpoints.hit("after_commit_before_ack")
        except BaseException as error:  # noqa: BLE001 - see run_one
            self._note(error)
            embedded = max(embedded, started)
            outcome = self._settle(active, error)
        commit_s = time.monotonic() - embedded
        self._report(lease, queue, outcome, (claim_s, embedded - started, commit_s))
        return outcome

    def _note_pace(self, lease: Lease, embed_s: float, commit_s: float) -> None:
        if embed_s < QUICK_EMBED_S and commit_s < QUICK_COMMIT_S:
            self._quick.add(lease.collection.id)
        else:
            self._quick.discard(lease.collection.id)

    def _report(
        self, lease: Lease, queue: Queue, outcome: Outcome, seconds: tuple[float, float, float]
    ) -> None:
        claim_s, embed_s, commit_s = seconds
        self._observe(
            BatchStats(
                batch=lease.id,
                queue=queue,
                space=lease.collection.space.name,
                outcome=outcome,
                texts=len(lease.texts),
                tokens=lease.tokens,
                claim_s=claim_s,
                embed_s=embed_s,
                commit_s=commit_s,
                job=lease.job_id,
                lane=lease.lane,
                waited_s=lease.waited_s,
                traceparent=lease.traceparent,
            )
        )

    def _embed(self, active: ActiveLease, queue: Queue) -> Vectors | None:
        """The vectors to be stored; None where they were stored as they came."""
        active.lease = self._retry_write(active, lambda: self._batches.reuse(active.lease))
        lease = active.lease
        if not lease.texts:
            return no_vectors(lease.collection.space)
        embedder = self._embedder_for(lease.collection, queue)
        if isinstance(embedder, EmbedsInParts):
            self._parts.take(active, embedder)
            return None
        return embedder.embed(lease.texts, "document")

    def _commit(self, active: ActiveLease, vectors: Vectors) -> None:
        self._failpoints.hit("after_embed")
        self._retry_write(active, lambda: self._batches.commit(active.lease, vectors))

    def _note(self, error: BaseException) -> None:
        if isinstance(error, psycopg.errors.DiskFull):
            self._disk.open()
        if isinstance(error, SchemaNewer):
            self._newer_tables(error)

    def _settle(self, active: ActiveLease, error: BaseException) -> Outcome:
        lease = active.lease
        decision = decide(
            error, texts=len(lease.texts), errors=lease.errors, max_attempts=self._max_attempts
        )
        reason = describe(error, lease.texts)
        log.warning("batch %d: %s -> %s", lease.id, reason, type(decision).__name__)
        if (seconds := cooling_s(error)) > 0:
            # Before the batch is back in the queue, or another slot would take it at once.
            space_id, queue = lease.collection.space_id, lease.collection.queue
            self._cooling.cool(space_id, queue, seconds, lease.lane)
        try:
            return self._retry_write(active, lambda: self._apply(lease, decision, reason))
        except LeaseLost:
            return Outcome.LOST
        except BaseException as second:  # noqa: BLE001 - see run_one
            # The lease runs out and the sweeper brings the batch back. A disk may be too full even
            # for that: then the heartbeat says so.
            self._note(second)
            log.error("batch %d stays leased until its lease ends: %s", lease.id, describe(second))  # noqa: TRY400
            return Outcome.LOST

    def _apply(self, lease: Lease, decision: Decision, reason: str) -> Outcome:
        match decision:
            case Retry(after_s):
                self._batches.retry(lease, delay_s=after_s, reason=reason)
                return Outcome.RETRY
            case Defer(after_s, keeps_place):
                self._batches.defer(lease, delay_s=after_s, reason=reason, keeps_place=keeps_place)
                return Outcome.DEFER
            case Pause(Stop(code, why)):
                self._batches.pause_space(lease, code=code, reason=unquoted(why, lease.texts))
                return Outcome.STOPPED
            case Split():
                self._batches.split(lease, reason=reason)
                return Outcome.SPLIT
            case Fail(code):
                self._batches.fail(lease, code=code, reason=reason)
                return Outcome.FAIL
            case Discard():
                return Outcome.LOST

    def _retry_write(self, active: ActiveLease, write: Callable[[], Written]) -> Written:
        """Write to the database, again after it was away: a vector is too dear to be thrown out.

        Repeating is harmless although a lost connection hides whether a commit went through: the
        fence lets it through only once.
        """
        while True:
            if active.lost:
                raise LeaseLost(batch=active.lease.id, attempt=active.lease.attempt)
            try:
                return write()
            except _SHORT:
                raise
            except _AWAY as error:
                log.warning("batch %d waits for the database: %s", active.lease.id, describe(error))
                time.sleep(RECONNECT_S)
