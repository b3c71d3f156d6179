"""What one worker process holds: its database, heartbeat, embedders and pipeline."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from uuid import uuid4

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.catalogue.api_models import price_of
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseFull, SchemaNewer
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.leadership import DISK_PROBE, Leadership
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.claims import PriceOf
from embedfleet_schema.store.workers import WorkerIdentity
from embedfleet_schema.types import CollectionInfo, Queue, Space
from embedfleet_workers import signals
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.cores import cores
from embedfleet_workers.decisions import DISK_FULL_S
from embedfleet_workers.embedder_cache import EmbedderCache
from embedfleet_workers.embedders.protocol import Embedder
from embedfleet_workers.heartbeat import Heartbeat
from embedfleet_workers.lanes import LaneTurns
from embedfleet_workers.pipeline import BatchStats, Outcome, Pipeline
from embedfleet_workers.query_answers import QueryAnswers
from embedfleet_workers.query_listener import Ears, QueryListener

log = logging.getLogger(__name__)

# How long a slot goes on by itself with one ring: small batches would spend more on messages than
# on work. After that it rings, so that a worker of several queues takes them in turns.
STRETCH_S = 1.0
# Models that a process keeps loaded; a fleet that serves more spaces runs more workers.
MODELS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Launch:
    """How the worker was started: queues, processes of the pool, slots in each of them."""

    queues: tuple[Queue, ...]
    processes: int
    slots: int


class Runtime:
    """A worker process at work. Make it after the fork, in the process that embeds."""

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        ring: Callable[[Queue, int], object] = lambda _queue, _count: None,
        newer_tables: Callable[[SchemaNewer], object] = lambda _: None,
    ) -> None:
        """`ring` tells workers of a queue that there is work for so many slots. `newer_tables`
        tells the process that its tables are newer than this program.
        """
        self.db = Database(
            settings.database,
            direct_url=settings.direct_database,
            max_connections=launch.slots + 3,
            lock_wait_s=settings.lock_wait_seconds,
        )
        worker = _identity(settings, launch)
        failpoints = Failpoints.parse(settings.failpoints)
        batches = Batches(
            self.db,
            owner=worker.id,
            lease_seconds=settings.lease_seconds,
            failpoints=failpoints,
        )
        disk = Breaker(DISK_FULL_S, Leadership(self.db, DISK_PROBE, DISK_FULL_S))
        self._heartbeat = Heartbeat(
            self.db,
            batches,
            worker,
            lease_s=settings.lease_seconds,
            reason=lambda: str(DatabaseFull()) if disk.is_open else None,
        )
        prices = partial(price_of, overrides=settings.prices)
        self._leaving = False
        self._cooling = Cooling(lambda queue: ring(queue, launch.slots))
        self._embedders = EmbedderCache(
            settings,
            self.db,
            threads=settings.torch_threads or max(1, cores() // launch.processes),
            records=True,
            faults=settings.fake_faults,
            most=MODELS_KEPT,
            tell=self._heartbeat.runs_on,
        )
        self._pipeline = Pipeline(
            batches,
            self._embedder_for,
            self._heartbeat,
            max_attempts=settings.max_attempts,
            observe=self._observe,
            failpoints=failpoints,
            disk=disk,
            cooling=self._cooling,
            lanes=LaneTurns(launch.slots),
            price_of=prices,
            newer_tables=newer_tables,
        )
        self._queries = self._listener(launch, worker, prices)

    def _listener(self, launch: Launch, worker: WorkerIdentity, prices: PriceOf) -> QueryListener:
        """What embeds the texts of clients of SQL."""
        answers = QueryAnswers(
            self.db,
            launch.queues,
            self._embedder_of,
            loaded=self._embedders.loaded,
            cooling=self._cooling,
            worker_id=worker.id,
            price_of=prices,
        )
        return QueryListener(Ears(self.db, launch.queues), answers)

    def start(self) -> None:
        self._heartbeat.start()
        self._queries.start()

    def run_one(self, queue: Queue) -> Outcome:
        return self._pipeline.run_one(queue)

    def answer(self, queue: Queue) -> Outcome:
        """Answer a ring: take batches through for a while, one at least; what the last came to."""
        until = time.monotonic() + STRETCH_S
        while (outcome := self.run_one(queue)) is Outcome.DONE:
            if self._leaving or time.monotonic() >= until:
                break
        return outcome

    def leave(self) -> None:
        """Begin no batch but those that are rung for: the process is told to stop."""
        self._leaving = True

    def stop(self) -> None:
        self._queries.stop()
        self._cooling.stop()
        self._heartbeat.stop()
        self._embedders.close(models=False)
        self.db.close()

    def _embedder_for(self, collection: CollectionInfo, queue: Queue) -> Embedder:
        return self._embedders.get(collection.space, device_of(queue), collection.precision)

    def _embedder_of(self, space: Space, queue: Queue) -> Embedder:
        return self._embedders.any_of(space, device_of(queue))

    def _observe(self, stats: BatchStats) -> None:
        signals.batch_ended.send(stats)
        log.info(
            "batch %d: %s, %d texts of %s, claim %.0f ms, embed %.0f ms, commit %.0f ms",
            stats.batch,
            stats.outcome,
            stats.texts,
            stats.space,
            stats.claim_s * 1e3,
            stats.embed_s * 1e3,
            stats.commit_s * 1e3,
        )
        if stats.outcome is Outcome.DONE:
            self._heartbeat.count(batches=1, chunks=stats.texts, tokens=stats.tokens)


def device_of(queue: Queue) -> str:
    """The device that a queue stands for; API calls need none but a CPU."""
    return "cuda" if queue == "cuda" else "cpu"


def _identity(settings: Settings, launch: Launch) -> WorkerIdentity:
    return WorkerIdentity(
        id=uuid4(),
        hostname=socket.gethostname(),
        pid=os.getpid(),
        queues=list(launch.queues),
        slots=launch.slots,
        device=device_of(launch.queues[0]),
        version=version("embedfleet"),
        heartbeat_seconds=settings.heartbeat_seconds,
    )
