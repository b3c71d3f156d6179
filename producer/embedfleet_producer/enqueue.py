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
from embedfleet_producer.contexts import ContextFunction
from embedfleet_producer.cutter_pool import CutterPool, SharedChunker
from embedfleet_producer.existing import ExistingDocument, existing_documents
from embedfleet_producer.loading import Loading
from embedfleet_producer.mirror import Mirroring
from embedfleet_producer.prepare import Prepared, keep_some, prepare
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_producer.retries import retried
from embedfleet_producer.source import Known, Source, known_objects
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.verdicts import RepeatedVerdicts, SupersededVerdicts, rows
from embedfleet_producer.windows import Window, windows
from embedfleet_schema.broker import Doorbell
from embedfleet_schema.catalogue.provider_batch_prices import check_delivery
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import callers_own, translated
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import collections, documents, ingest, reuse
from embedfleet_schema.store.jobs import Tally
from embedfleet_schema.turns import ANY_TURN, Turn
from embedfleet_schema.types import CollectionInfo, Delivery, Document, Rejection
from embedfleet_schema.webhook_urls import check_webhook


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
    the batches all the same, a few seconds later. A mirror has `deleted` documents that are gone
    from their source; `undeleted` says why it kept others.
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
    deleted: int = 0
    undeleted: str | None = None

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
        context: ContextFunction | None = None,
        replace: bool = False,
        processes: int = 1,
    ) -> None:
        """With several `processes` others cut, and this one reads and writes.

        Raises:
            UsageError: they could not import `chunk`.
        """
        space, chunking = collection.space, collection.chunking
        self._counter = counter_for(space, chunking)
        self._db = db
        self._collection = collection
        self._settings = settings
        self._doorbell = doorbell
        self._pool: CutterPool | None = None
        if processes > 1:
            self._pool = CutterPool(processes, space, chunking, chunk)
        self._chunker = self._made_chunker()
        self._elsewhere = reuse.Elsewhere(db, collection)
        self._function = chunk
        self._context = context
        self._replace = replace
        self._failpoints = Failpoints.parse(settings.failpoints)

    def enqueue(
        self,
        stream: Iterable[Document | Rejection],
        *,
        budget_usd: float | None = None,
        delivery: Delivery = "direct",
        turn: Turn = ANY_TURN,
        webhook: str | None = None,
        on_window: OnWindow | None = None,
        stopping: threading.Event | None = None,
        source: str | None = None,
        mirror: bool = False,
        confirm_deletions: bool = False,
    ) -> Enqueued:
        """Store and queue a stream; returns when everything is committed, not when it is embedded.

        Each window is one transaction; while one is written, the next is read and cut. If the
        stream raises, what was read before is stored all the same. A call that is interrupted, or
        told to stop by `stopping`, reads nothing more and keeps what is committed. Either way the
        job is `interrupted`. `source` is that of all documents. With `mirror`, what it no longer
        has is deleted at the end.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            ProviderBatchesUnsupported: its provider has no batch API; nothing was stored.
            BadWebhook: a webhook may not go there; nothing was stored.
            NotDocuments: the stream is none of documents; nothing was stored.
            UsageError: other processes cannot import the chunk function, or nobody can tell which
                documents a mirror may delete; nothing was stored.
        """
        check_budget(budget_usd, self._collection.space, self._settings.prices)
        check_delivery(delivery, self._collection.space, self._settings)
        if webhook is not None:
            check_webhook(webhook, private=self._settings.webhook_private)
        with translated(self._db, self._collection.name):
            mirroring = None
            if mirror:
                confirmed = confirm_deletions
                mirroring = Mirroring(
                    self._db, self._collection, stream, source, confirmed=confirmed
                )
            with (
                closing(Source(stream, stopping, self._known(stream, source), source)) as documents,
                self._pool or nullcontext(),
                Loading(
                    self._db,
                    self._collection,
                    self._settings,
                    budget_usd=budget_usd,
                    delivery=delivery,
                    turn=turn,
                    webhook=webhook,
                ) as job_id,
            ):
                done = Enqueued(job_id)
                if mirroring is not None:
                    mirroring.begin(job_id, self._failpoints)
                superseded = SupersededVerdicts(self._db, self._collection, documents)
                self._take_all(documents, done, delivery, on_window, superseded)
                superseded.forget(job_id)
                if mirroring is not None:
                    read = done.documents + done.unchanged
                    done.deleted, done.undeleted = mirroring.end(read)
        return done

    def _known(self, stream: object, source: str | None) -> Known | None:
        """Which objects need not be read. A function of the caller's is to see all texts."""
        if self._function is not None or self._context is not None:
            return None
        return known_objects(self._db, self._collection, stream, source)

    def store(self, documents: Iterable[Document | Rejection], job_id: int) -> Iterator[Written]:
        """Store a few documents for a job of the caller's, which may give it the same keys again:
        the later document replaces the former one.
        """
        alike = RepeatedVerdicts(of_files=False)
        with translated(self._db, self._collection.name):
            for window in windows(documents, self._settings, mode=self._chunker.mode):
                prepared = self._prepare(window, None)
                again = partial(self._prepare, window, None)
                yield self._write(prepared, again, job_id, "direct", alike)

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
            contextual=self._context is not None,
        )
        alike = RepeatedVerdicts(of_files=source.tells_ends)
        with ThreadPoolExecutor(1, "embedfleet-writer") as writer:
            writing: deque[Future[Written]] = deque()
            before: Window | None = None
            try:
                for window in cut:
                    prepared = self._prepare(window, done.job_id, before)
                    self._settle(writing, done, on_window)
                    again = partial(self._prepare, window, done.job_id)
                    write = partial(self._write, prepared, again, done.job_id, delivery, alike)
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
        return prepare(
            window,
            known,
            self._chunker,
            job_id=job_id,
            replace_others=self._replace,
            context=self._context,
        )

    def _write(
        self,
        prepared: Prepared,
        prepare_again: Callable[[], Prepared],
        job_id: int,
        delivery: Delivery,
        alike: RepeatedVerdicts,
    ) -> Written:
        batch_tokens = self._settings.batch_tokens(self._collection.queue)
        self._failpoints.hit("before_merge")

        def stored(again: bool) -> tuple[Prepared, ingest.Merged, int]:
            # A commit whose answer was lost is seen by its digests and not repeated.
            if again:
                self._look_at_template()
            wanted = prepare_again() if again else prepared
            incoming = wanted.incoming
            incoming.verdicts = rows(alike.cut(wanted.rejected))
            hashes = {chunk.hash for chunk in incoming.chunks}
            elsewhere = self._elsewhere.count(hashes - incoming.vectors.keys())
            merged = ingest.merge(
                self._db,
                self._collection,
                job_id,
                incoming,
                batch_tokens=batch_tokens,
                interactive_tokens=self._settings.interactive_tokens,
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

    def _made_chunker(self) -> Chunker:
        space, chunking = self._collection.space, self._collection.chunking
        if self._pool is not None:
            return SharedChunker(space, chunking, self._counter, self._pool)
        return Chunker(space, chunking, self._counter)

    def _look_at_template(self) -> None:
        """It may have changed since the collection was opened: see `ingest.merge`."""
        with self._db.transaction() as conn:
            current = collections.by_id(conn, self._collection.id)
        if current.template != self._collection.template:
            self._collection = current
            self._chunker = self._made_chunker()
