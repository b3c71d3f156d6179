"""Enqueue: a stream of documents, window by window, into chunks and batches; then ring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, fields
from functools import partial

from embedfleet_producer.budget import check_budget
from embedfleet_producer.chunking import Chunker
from embedfleet_producer.cutter_pool import CutterPool, SharedChunker
from embedfleet_producer.existing import ExistingDocument, existing_documents
from embedfleet_producer.loading import Loading
from embedfleet_producer.prepare import Prepared, keep_some, prepare
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_producer.retries import retried
from embedfleet_producer.source import Source
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.verdicts import RepeatedVerdicts, SupersededVerdicts, rows
from embedfleet_producer.windows import Window, windows
from embedfleet_schema.broker import Doorbell
from embedfleet_schema.catalogue.provider_batch_prices import check_delivery
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import callers_own, translated
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import documents, ingest, reuse
from embedfleet_schema.store.jobs import Tally
from embedfleet_schema.types import CollectionInfo, Delivery, Document, Rejection


@dataclass(frozen=True, slots=True)
class Written:
    """One committed window."""

    tally: Tally
    batches: int
    elsewhere: int
    imported: int
    rejections: list[Rejection]
    rung: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """Of some documents, the keys of those that are new or another version, and the verdicts on
    those that are not accepted.
    """

    changed: list[str]
    rejected: list[Rejection]


@dataclass(slots=True)
class Enqueued:
    """What a call of enqueue did. Of the texts, `reused` had their vector in the collection,
    `elsewhere` in another one of the space, from which workers copy it, `awaited` wait in batches
    of other jobs already, `failed` cannot be embedded by the model, whoever tries, and `imported`
    brought their vector along. `rung` is False when Redis did not hear it: workers that run find
    the batches all the same, a few seconds later.
    """

    job_id: int
    documents: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    reused: int = 0
    elsewhere: int = 0
    failed: int = 0
    awaited: int = 0
    batches: int = 0
    imported: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    rung: bool = True

    def add(self, written: Written) -> None:
        for each in fields(written.tally):
            setattr(self, each.name, getattr(self, each.name) + getattr(written.tally, each.name))
        self.batches += written.batches
        self.elsewhere += written.elsewhere
        self.imported += written.imported
        keep_some(self.rejections, written.rejections)
        self.rung = self.rung and written.rung


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
        replace: bool = False,
        processes: int = 1,
    ) -> None:
        """With several `processes` others cut, and this one reads and writes.

        Raises:
            UsageError: they could not import `chunk`.
        """
        space, chunking = collection.space, collection.chunking
        counter = counter_for(space, chunking)
        self._db = db
        self._collection = collection
        self._settings = settings
        self._doorbell = doorbell
        self._pool: CutterPool | None = None
        if processes > 1:
            self._pool = CutterPool(processes, space, chunking, chunk)
            self._chunker: Chunker = SharedChunker(space, chunking, counter, self._pool)
        else:
            self._chunker = Chunker(space, chunking, counter)
        self._elsewhere = reuse.Elsewhere(db, collection)
        self._function = chunk
        self._replace = replace
        self._failpoints = Failpoints.parse(settings.failpoints)

    def enqueue(
        self,
        stream: Iterable[Document | Rejection],
        *,
        budget_usd: float | None = None,
        delivery: Delivery = "direct",
        on_window: OnWindow | None = None,
        stopping: threading.Event | None = None,
    ) -> Enqueued:
        """Store and queue a stream; returns when everything is committed, not when it is embedded.

        Each window is one transaction; while one is written, the next is read and cut. If the
        stream raises, what was read before is stored all the same. A call that is interrupted, or
        told to stop by `stopping`, reads nothing more and keeps what is committed. Either way the
        job is `interrupted`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            ProviderBatchesUnsupported: its provider has no batch API; nothing was stored.
            NotDocuments: the stream is none of documents; nothing was stored.
            UsageError: other processes cannot import the chunk function; nothing was stored.
        """
        check_budget(budget_usd, self._collection.space, self._settings.prices)
        check_delivery(delivery, self._collection.space, self._settings)
        with (
            translated(self._db, self._collection.name),
            closing(Source(stream, stopping)) as source,
            self._pool or nullcontext(),
            Loading(
                self._db, self._collection, self._settings, budget_usd=budget_usd, delivery=delivery
            ) as job_id,
        ):
            done = Enqueued(job_id)
            superseded = SupersededVerdicts(self._db, self._collection, source)
            self._take_all(source, done, delivery, on_window, superseded)
            superseded.forget(job_id)
        return done

    def store(self, documents: Iterable[Document | Rejection], job_id: int) -> Iterator[Written]:
        """Store a few documents for a job of the caller's, which may give it the same keys again:
        the later document replaces the former one.
        """
        alike = RepeatedVerdicts(of_files=False)
        with translated(self._db, self._collection.name):
            for window in windows(documents, self._settings, mode=self._chunker.mode):
                prepared = self._prepare(window, None)
                yield self._write(window, prepared, job_id, "direct", alike, once=False)

    def compare(self, documents: Iterable[Document | Rejection]) -> Compared:
        """What storing them would change. Nothing is written."""
        found = Compared([], [])
        for window in windows(documents, self._settings, mode=self._chunker.mode):
            prepared = self._prepare(window, None)
            found.changed.extend(row.key for row in prepared.incoming.documents)
            found.rejected.extend(prepared.rejected)
        return found

    def _take_all(
        self,
        source: Source,
        done: Enqueued,
        delivery: Delivery,
        on_window: OnWindow | None,
        superseded: SupersededVerdicts,
    ) -> None:
        cut = windows(
            source,
            self._settings,
            mode=self._chunker.mode,
            function=self._function,
            pool=self._pool,
        )
        alike = RepeatedVerdicts(of_files=source.tells_ends)
        with ThreadPoolExecutor(1, "embedfleet-writer") as writer:
            writing: deque[Future[Written]] = deque()
            before: Window | None = None
            try:
                for window in cut:
                    prepared = self._prepare(window, done.job_id, before)
                    self._settle(writing, done, on_window)
                    write = partial(self._write, window, prepared, done.job_id, delivery, alike)
                    writing.append(writer.submit(write))
                    before = window
                    superseded.follow()
            finally:
                self._settle(writing, done, on_window)

    def _settle(
        self, writing: deque[Future[Written]], done: Enqueued, on_window: OnWindow | None
    ) -> None:
        """Wait for the window that is being written, and count it."""
        while writing:
            done.add(writing.popleft().result())
            if on_window is not None:
                try:
                    on_window(done)
                except Exception as error:
                    callers_own(error)
                    raise

    def _prepare(
        self, window: Window, job_id: int | None, before: Window | None = None
    ) -> Prepared:
        """`before` is a window that is being written and not to be seen in the tables yet."""
        keys = window.keys()
        known = retried(lambda _: existing_documents(self._db, self._collection, keys))
        window.use_former_keys(known)
        if before is not None:
            for key in window.accepted.keys() & before.accepted.keys():
                first = before.accepted[key]
                origin = first.document
                known[key] = ExistingDocument(
                    first.digest, live=False, job_id=job_id, source=origin.source, row=origin.row
                )
        return prepare(window, known, self._chunker, job_id=job_id, replace_others=self._replace)

    def _write(
        self,
        window: Window,
        prepared: Prepared,
        job_id: int,
        delivery: Delivery,
        alike: RepeatedVerdicts,
        *,
        once: bool = True,
    ) -> Written:
        """`once`: the job gives each key once."""
        batch_tokens = self._settings.batch_tokens(self._collection.queue)
        self._failpoints.hit("before_merge")

        def stored(again: bool) -> tuple[Prepared, ingest.Merged, int]:
            # A commit whose answer was lost is seen by its digests and not repeated.
            wanted = self._prepare(window, job_id if once else None) if again else prepared
            incoming = wanted.incoming
            incoming.verdicts = rows(alike.cut(wanted.rejected))
            hashes = {chunk.hash for chunk in incoming.chunks}
            elsewhere = self._elsewhere.count(hashes - incoming.vectors.keys())
            merged = ingest.merge(
                self._db, self._collection, job_id, incoming, batch_tokens=batch_tokens
            )
            return wanted, merged, elsewhere

        written, merged, elsewhere = retried(stored)
        alike.count(written.rejected)
        retried(lambda _: documents.prune(self._db, self._collection, merged.left_behind))
        self._failpoints.hit("after_merge_before_ring")
        # The runner of provider batches looks by itself.
        rings = merged.batches and delivery == "direct"
        rung = not rings or self._doorbell.ring(self._collection.queue, merged.batches)
        return Written(
            merged.tally, merged.batches, elsewhere, merged.vectors, written.rejected, rung
        )
