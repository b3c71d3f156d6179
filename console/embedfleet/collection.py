"""A collection as people use it: enqueue, search, delete, audit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet import arguments
from embedfleet.columns import Columns
from embedfleet.error_translation import translate_errors
from embedfleet.exchange import Exchange
from embedfleet.job import Job
from embedfleet.migrating import Migrating
from embedfleet.quality import Quality
from embedfleet.related_searches import RelatedSearches, Vector
from embedfleet.reranking import RERANK_TOP
from embedfleet_producer.async_bridge import beside, fed
from embedfleet_schema.hits import Hit
from embedfleet_schema.store.search import search, statement
from embedfleet_schema.turns import Lane, Turn
from embedfleet_schema.types import MOST_PROCESSES, Delivery, Document, Rejection

if TYPE_CHECKING:
    from embedfleet.planning import Plan
    from embedfleet_producer.contexts import ContextFunction
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.ready_made import ChunkFunction


@translate_errors
class Collection(Exchange, Quality, RelatedSearches, Migrating, Columns):
    """A named set of documents in one embedding space. Get one from `Fleet.collection`.

    After a drop, every call raises `CollectionGone`, even if another collection has its name. Where
    the name was given to another one (`migrate`, `swap`), calls go on with that one.
    """

    def enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None = None,
        context: ContextFunction | None = None,
        budget_usd: float | None = None,
        provider_batches: bool = False,
        replace: bool = False,
        processes: int = 1,
        webhook: str | None = None,
        source: str | None = None,
        mirror: bool = False,
        confirm_deletions: bool = False,
        on_window: Callable[[Enqueued], None] | None = None,
        lane: Lane | None = None,
        tenant: str | None = None,
    ) -> Job:
        """Store documents, and queue what must be embedded; a stream of any length.

        Returns when everything is committed. It waits neither for Redis nor for workers. A document
        with a known key replaces the former one as soon as all of it is embedded. Unchanged
        documents cost nothing. Bad documents are listed in `job.enqueued.rejections`; the others
        are stored. A changed document is also rejected if its key is stored with another source
        (KEY_TAKEN).

        If the stream raises, what was read before is stored, and the error is raised here. A call
        that is interrupted keeps what was committed. Both leave a job that is `interrupted`: what
        it stored is embedded. Enqueue again to store the rest.

        Args:
            documents: `Document` values from any iterable (or from `read_paths`).
            chunk: your own function that cuts a text; default: the collection's chunking. It is
                called for every document: its chunks tell whether the document changed.
            context: your own function that says what is embedded before each chunk: a text or None
                for each. It gets a document and its chunks, if they are new or changed.
            budget_usd: the most that the job may cost. It is paused before it costs more.
            provider_batches: file the texts with the provider's batch API: half the price, and an
                answer within a day. OpenAI has one.
            replace: also replace documents that came from other sources.
            processes: with 2 or more, so many other processes cut. The result is the same.
                They must be able to import `chunk`.
            webhook: a URL that workers send the job's counts to when it has ended, signed.
            source: the source of all documents, instead of their own.
            mirror: at the end, delete what the source no longer has: documents of `source`, or of
                the files and folders that `read_paths` reads. If not all was read, nothing is
                deleted; `job.enqueued.undeleted` says why.
            confirm_deletions: delete also more than half of the source.
            on_window: called after each committed window with the counts so far.
            lane: `interactive` goes before `bulk`. Default: a small job is interactive.
            tenant: whose share of the workers the job uses.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            ProviderBatchesUnsupported: its provider has no batch API; nothing was stored.
            BadWebhook: a webhook may not go there; nothing was stored.
            NotDocuments: these are not documents; nothing was stored.
            UsageError: other processes cannot import `chunk`, or a mirror has no `source`; nothing
                was stored.
        """
        arguments.function("enqueue", "on_window", on_window)
        return self._enqueue(
            documents,
            chunk=chunk,
            context=context,
            budget_usd=budget_usd,
            delivery=arguments.delivery(provider_batches),
            turn=arguments.turn("enqueue", lane, tenant),
            replace=replace,
            processes=processes,
            webhook=webhook,
            source=source,
            mirror=mirror,
            confirm_deletions=confirm_deletions,
            on_window=on_window,
        )

    async def aenqueue(
        self,
        documents: Iterable[Document | Rejection] | AsyncIterable[Document],
        *,
        chunk: ChunkFunction | None = None,
        context: ContextFunction | None = None,
        budget_usd: float | None = None,
        provider_batches: bool = False,
        replace: bool = False,
        processes: int = 1,
        source: str | None = None,
        mirror: bool = False,
        confirm_deletions: bool = False,
        lane: Lane | None = None,
        tenant: str | None = None,
        webhook: str | None = None,
    ) -> Job:
        """`enqueue` without blocking the event loop; also takes asynchronous iterables.

        If you cancel the call, it reads no more documents and closes an asynchronous stream. What
        is committed stays, in a job that is `interrupted`.
        """
        stopping = threading.Event()
        delivery = arguments.delivery(provider_batches)
        turn = arguments.turn("enqueue", lane, tenant)

        def run(stream: Iterable[Document | Rejection]) -> Job:
            return self._enqueue(
                stream,
                chunk=chunk,
                context=context,
                budget_usd=budget_usd,
                delivery=delivery,
                turn=turn,
                replace=replace,
                processes=processes,
                webhook=webhook,
                source=source,
                mirror=mirror,
                confirm_deletions=confirm_deletions,
                stopping=stopping,
            )

        if isinstance(documents, AsyncIterable):
            return await fed(documents, run, stopping)
        return await beside(lambda: run(documents), stopping.set)

    def plan(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None = None,
        context: ContextFunction | None = None,
        replace: bool = False,
        source: str | None = None,
        mirror: bool = False,
    ) -> Plan:
        """What enqueueing these documents would do and cost; with `mirror`, also what would be
        deleted. Nothing is written, and spent by `context` alone. `Fleet.plan` compares models, and
        plans for what does not exist yet.
        """
        from embedfleet.planning import make_plans
        from embedfleet_producer.plan import Target

        arguments.function("plan", "chunk", chunk)
        arguments.function("plan", "context", context)
        self._check_there()
        target = Target(self.info.space, self.info.chunking, self.info)
        arguments.mirror("plan", source, mirror=mirror)
        (made,) = make_plans(
            self._connections,
            self.name,
            [target],
            documents,
            chunk=chunk,
            context=context,
            replace=replace,
            source=source,
            mirror=mirror,
        )
        return made

    def search(
        self,
        query: str | Vector,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        rerank: str | None = None,
        rerank_top: int = RERANK_TOP,
    ) -> list[Hit]:
        """The `k` chunks nearest to a text (as `embed_query` does) or to a vector, best first.

        Args:
            query: a text, or a vector of shape (dimensions,) from the collection's space.
            where: a filter on metadata and document keys: {"lang": "en", "year": {"gte": 2020}}.
                A number that stands alone also finds its text, as in a cell of CSV.
            min_score: leave out hits that score less; with the metric cosine, 1 is the best score.
            rerank: a model that reads the text with each of the nearest `rerank_top` chunks, and
                decides their order: a local cross-encoder, cohere/... or voyage/... The hits are
                `RerankedHit` then.

        Raises:
            BadFilter: `where` is no filter.
            UnreadableQuery: the text is blank, or the model knows none of its words.
        """
        arguments.whole("search", "k", k)
        arguments.where(where)
        arguments.score("search", "min_score", min_score)
        arguments.whole("search", "rerank_top", rerank_top)
        db = self._connections.db
        most = k if rerank is None else max(k, rerank_top)
        hits = self._following(
            lambda: search(
                db, self.info, self._vector(query), k=most, where=where, min_score=min_score
            ),
            query,
        )
        return hits if rerank is None else self.reranked(query, hits, rerank)[:k]

    async def asearch(
        self,
        query: str | Vector,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        rerank: str | None = None,
        rerank_top: int = RERANK_TOP,
    ) -> list[Hit]:
        """`search` without blocking the event loop: it runs in a thread of the loop."""
        return await asyncio.to_thread(
            self.search,
            query,
            k=k,
            where=where,
            min_score=min_score,
            rerank=rerank,
            rerank_top=rerank_top,
        )

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, float32 of shape (dimensions,).

        A worker that has the model gives it, unless it is loaded here or the key of the provider is
        known here. If no worker answers, the model is loaded. You do not pay twice for the same
        query.

        Raises:
            NotAnswered: no worker answered, and the model cannot be loaded here.
            QueryRefused: a worker could not embed it.
        """
        arguments.text("search", "query", text)
        self._check_there()
        return self._vector(text).copy()

    def search_sql(self, *, k: int = 10, where: Mapping[str, Any] | None = None) -> str:
        """What `search` runs, as one statement, with $1 for the query vector."""
        arguments.whole("search_sql", "k", k)
        arguments.where(where)
        self._check_there()
        return statement(self.info, k=k, where=where)

    def search_script(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> str:
        """The statement that finds what `search` finds, with the vector, for psql."""
        arguments.whole("search_script", "k", k)
        arguments.where(where)
        vector = self._vector(query)
        self._check_there()
        return statement(self.info, k=k, where=where, vector=vector) + ";"

    def _enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None,
        context: ContextFunction | None,
        budget_usd: float | None,
        delivery: Delivery,
        turn: Turn,
        replace: bool,
        processes: int,
        webhook: str | None,
        source: str | None,
        mirror: bool,
        confirm_deletions: bool,
        on_window: Callable[[Enqueued], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> Job:
        from embedfleet_producer.enqueue import Producer

        arguments.function("enqueue", "chunk", chunk)
        arguments.function("enqueue", "context", context)
        arguments.budget("enqueue", budget_usd)
        arguments.flag("enqueue", "confirm_deletions", confirm_deletions)
        arguments.words("enqueue", webhook=webhook)
        arguments.mirror("enqueue", source, mirror=mirror)
        self._check_written()
        producer = Producer(
            self._connections.db,
            self.info,
            self._connections.settings,
            self._connections.doorbell,
            chunk=chunk,
            context=context,
            replace=replace,
            processes=arguments.whole("enqueue", "processes", processes, most=MOST_PROCESSES),
        )
        enqueued = producer.enqueue(
            documents,
            budget_usd=budget_usd,
            delivery=delivery,
            turn=turn,
            webhook=webhook,
            on_window=on_window,
            stopping=stopping,
            source=source,
            mirror=mirror,
            confirm_deletions=confirm_deletions,
        )
        return Job(self._connections, enqueued.job_id, enqueued)
