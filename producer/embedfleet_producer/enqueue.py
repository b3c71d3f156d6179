"""Enqueue: a stream of documents, window by window, into chunks and batches; then ring."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import psycopg

from embedfleet_producer.chunking import Chunker, ChunkFunction
from embedfleet_producer.merge import known_documents, merge
from embedfleet_producer.prepare import prepare
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.windows import Documents, Window, windows
from embedfleet_schema.broker import Doorbell
from embedfleet_schema.database import Database
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import jobs
from embedfleet_schema.store.jobs import Tally
from embedfleet_schema.types import CollectionInfo, Rejection

log = logging.getLogger(__name__)

# Verdicts that a call returns; all of them are in `failures`, and memory stays flat.
REJECTIONS_RETURNED = 1_000
# A window meets a deadlock or a lost connection this often before the call gives up.
TRIES = 6
FIRST_PAUSE_S = 0.2

_TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.OperationalError,
)


@dataclass(slots=True)
class Enqueued:
    """What a call of enqueue did. `rung` is False when Redis did not hear it: workers that run
    find the batches all the same, a few seconds later.
    """

    job_id: int
    documents: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    reused: int = 0
    batches: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    rung: bool = True

    def add(self, tally: Tally, batches: int, rejections: list[Rejection]) -> None:
        for each in fields(tally):
            setattr(self, each.name, getattr(self, each.name) + getattr(tally, each.name))
        self.batches += batches
        room = REJECTIONS_RETURNED - len(self.rejections)
        self.rejections.extend(rejections[:room])


OnWindow = Callable[[Enqueued], None]


class Producer:
    """Enqueues documents into one collection."""

    def __init__(
        self,
        db: Database,
        collection: CollectionInfo,
        settings: Settings,
        doorbell: Doorbell,
        *,
        chunk: ChunkFunction | None = None,
    ) -> None:
        counter = counter_for(collection.space, collection.chunking)
        self._db = db
        self._collection = collection
        self._settings = settings
        self._doorbell = doorbell
        self._chunker = Chunker(collection.space, collection.chunking, counter)
        self._function = chunk

    def enqueue(self, stream: Documents, *, on_window: OnWindow | None = None) -> Enqueued:
        """Store and queue a stream; returns when everything is committed, not when it is embedded.

        Each window is one transaction. If the stream raises, what was committed stays queued.
        """
        with self._db.transaction() as conn:
            done = Enqueued(jobs.create(conn, self._collection, "enqueue"))
        limits = self._settings
        try:
            for window in windows(
                stream,
                max_documents=limits.window_documents,
                max_bytes=limits.window_bytes,
                max_document_bytes=limits.max_document_bytes,
            ):
                self._take(window, done)
                if on_window is not None:
                    on_window(done)
        finally:
            with self._db.transaction() as conn:
                jobs.loaded(conn, done.job_id)
        return done

    def _take(self, window: Window, done: Enqueued) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                batches = self._store(window, done)
                break
            except _TRANSIENT as error:
                if attempt == TRIES:
                    raise
                # A commit whose answer was lost is seen by its digests and not repeated.
                pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311
                log.warning("window not stored, next try in %.1f s: %s", pause, error.sqlstate)
                time.sleep(pause)
        if batches:
            done.rung = self._doorbell.ring(self._collection.queue, batches)

    def _store(self, window: Window, done: Enqueued) -> int:
        known = known_documents(self._db, self._collection, list(window.accepted))
        prepared = prepare(
            window, known, self._chunker, function=self._function, job_id=done.job_id
        )
        tally, batches = merge(
            self._db,
            self._collection,
            done.job_id,
            prepared,
            budget=self._settings.batch_tokens(self._collection.queue),
        )
        done.add(tally, batches, prepared.rejected)
        return batches
