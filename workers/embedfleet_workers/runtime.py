"""What one worker process holds: its database, heartbeat, embedders and pipeline."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import uuid4

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.catalogue import API_PROVIDERS, price_of
from embedfleet_schema.database import Database
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.workers import WorkerIdentity
from embedfleet_schema.turns import DISK_PROBE, Turn
from embedfleet_schema.types import Queue, Space
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.cores import cores
from embedfleet_workers.decisions import DISK_FULL_S
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.protocol import Embedder
from embedfleet_workers.heartbeat import Heartbeat
from embedfleet_workers.pipeline import BatchStats, Outcome, Pipeline
from embedfleet_workers.selfcheck import checked_embedder

if TYPE_CHECKING:
    from embedfleet_workers.embedders.api.access import ApiAccess

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


class Embedders:
    """Embedders by space and device, loaded on first use, the least used closed when many."""

    def __init__(self, settings: Settings, launch: Launch, db: Database) -> None:
        self._settings = settings
        self._db = db
        self._threads = settings.torch_threads or max(1, cores() // launch.processes)
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[bytes, str], Embedder] = OrderedDict()

    def get(self, space: Space, queue: Queue) -> Embedder:
        """The embedder of `space` on the device of `queue`. Threads that ask at once load once."""
        device = device_of(queue)
        key = (space.fingerprint, device)
        with self._lock:
            if key not in self._loaded:
                log.info("loading %s on %s", space.name, device)
                self._loaded[key] = checked_embedder(
                    self._db,
                    space,
                    lambda: self._load(space, device),
                    allowed_models=self._settings.allowed_models,
                    records=True,
                )
            self._loaded.move_to_end(key)
            # A model that leaves the shelf is not closed: another thread may be inside it.
            while len(self._loaded) > MODELS_KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[key]

    def _load(self, space: Space, device: str) -> Embedder:
        return load_embedder(
            space,
            device=device,
            threads=self._threads,
            allowed_models=self._settings.allowed_models,
            faults=self._settings.fake_faults,
            api=self._api if space.provider in API_PROVIDERS else None,
        )

    def close(self) -> None:
        """Give back the connections to APIs; models go with the process."""
        if "_api" in self.__dict__:
            self._api.close()

    @cached_property
    def _api(self) -> ApiAccess:
        """Opened by the first space that needs it: most workers have none."""
        from embedfleet_workers.embedders.api.access import open_access

        return open_access(self._settings, self._db)


class Runtime:
    """A worker process at work. Make it after the fork, in the process that embeds."""

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        ring: Callable[[Queue, int], object] = lambda _queue, _count: None,
    ) -> None:
        """`ring` tells workers of a queue that there is work for so many slots."""
        self.db = Database(
            settings.database,
            max_connections=launch.slots + 3,
            lock_wait_s=settings.lock_wait_seconds,
        )
        worker = WorkerIdentity(
            id=uuid4(),
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=list(launch.queues),
            slots=launch.slots,
            device=device_of(launch.queues[0]),
            version=version("embedfleet"),
        )
        failpoints = Failpoints.parse(settings.failpoints)
        batches = Batches(
            self.db,
            owner=worker.id,
            lease_seconds=settings.lease_seconds,
            failpoints=failpoints,
        )
        self._heartbeat = Heartbeat(
            self.db,
            batches,
            worker,
            every_s=settings.heartbeat_seconds,
            lease_s=settings.lease_seconds,
        )
        self._leaving = False
        self._cooling = Cooling(lambda queue: ring(queue, launch.slots))
        self._embedders = Embedders(settings, launch, self.db)
        self._pipeline = Pipeline(
            batches,
            self._embedders.get,
            self._heartbeat,
            max_attempts=settings.max_attempts,
            observe=self._observe,
            failpoints=failpoints,
            disk=Breaker(DISK_FULL_S, Turn(self.db, DISK_PROBE, DISK_FULL_S)),
            cooling=self._cooling,
            price_of=lambda name: price_of(name, settings.prices),
        )

    def start(self) -> None:
        self._heartbeat.start()

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
        self._cooling.stop()
        self._heartbeat.stop()
        self._embedders.close()
        self.db.close()

    def _observe(self, stats: BatchStats) -> None:
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
