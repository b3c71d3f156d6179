"""A collection as people use it: enqueue, search, delete, audit."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet import arguments
from embedfleet.columns import Columns
from embedfleet.error_translation import translate_errors
from embedfleet.exchange import Exchange
from embedfleet.job import Job
from embedfleet.quality import Quality
from embedfleet.related import Related, Vector
from embedfleet_producer.async_bridge import beside, fed
from embedfleet_schema.store import related
from embedfleet_schema.store.search import search, statement
from embedfleet_schema.types import MOST_PROCESSES, Delivery, Document, Hit, Rejection

if TYPE_CHECKING:
    from embedfleet.planning import Plan
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.ready_made import ChunkFunction


@translate_errors
class Collection(Exchange, Quality, Related, Columns):
    """A named set of documents in one embedding space. Get one from `Fleet.collection`.

    After a drop, every call raises `CollectionGone`, even if another collection has its name.
    """

    def enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        provider_batches: bool = False,
        replace: bool = False,
        processes: int = 1,
        on_window: Callable[[Enqueued], None] | None = None,
        lane: str | None = None,
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
            budget_usd: the most that the job may cost. It is paused before it costs more.
            provider_batches: file the texts with the provider's batch API: half the price, and an
                answer within a day. OpenAI has one.
            replace: also replace documents that came from other sources.
            processes: with 2 or more, so many other processes cut. The result is the same.
                They must be able to import `chunk`.
            on_window: called after each committed window with the counts so far.
            lane: deprecated; lane="batch" is provider_batches=True.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            ProviderBatchesUnsupported: its provider has no batch API; nothing was stored.
            NotDocuments: these are not documents; nothing was stored.
            UsageError: other processes cannot import `chunk`; nothing was stored.
        """
        arguments.function("enqueue", "on_window", on_window)
        return self._enqueue(
            documents,
            chunk=chunk,
            budget_usd=budget_usd,
            delivery=_delivery(provider_batches, lane),
            replace=replace,
            processes=processes,
            on_window=on_window,
        )

    async def aenqueue(
        self,
        documents: Iterable[Document | Rejection] | AsyncIterable[Document],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        provider_batches: bool = False,
        replace: bool = False,
        processes: int = 1,
        lane: str | None = None,
    ) -> Job:
        """`enqueue` without blocking the event loop; also takes asynchronous iterables.

        If you cancel the call, it reads no more documents and closes an asynchronous stream. What
        is committed stays, in a job that is `interrupted`.
        """
        stopping = threading.Event()
        delivery = _delivery(provider_batches, lane)

        def run(stream: Iterable[Document | Rejection]) -> Job:
            return self._enqueue(
                stream,
                chunk=chunk,
                budget_usd=budget_usd,
                delivery=delivery,
                replace=replace,
                processes=processes,
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
        replace: bool = False,
    ) -> Plan:
        """What enqueueing these documents would do and cost. Nothing is written or spent.

        `Fleet.plan` compares models, and plans for collections that do not exist yet.
        """
        from embedfleet.planning import make_plans
        from embedfleet_producer.plan import Target

        arguments.function("plan", "chunk", chunk)
        self._check_there()
        target = Target(self.info.space, self.info.chunking, self.info)
        (made,) = make_plans(
            self._connections, self.name, [target], documents, chunk=chunk, replace=replace
        )
        return made

    def search(
        self,
        query: str | Vector,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The `k` chunks nearest to a text (as `embed_query` does) or to a vector, best first.

        Args:
            query: a text, or a vector of shape (dimensions,) from the collection's space.
            where: a filter on metadata and document keys: {"lang": "en", "year": {"gte": 2020}}.
                A number that stands alone also finds its text, as in a cell of CSV.
            min_score: leave out hits that score less; with the metric cosine, 1 is the best score.

        Raises:
            BadFilter: `where` is no filter.
            UnreadableQuery: the text is blank, or the model knows none of its words.
        """
        arguments.whole("search", "k", k)
        arguments.where(where)
        arguments.score("search", "min_score", min_score)
        vector = self._vector(query)
        db = self._connections.db
        return search(db, self.info, vector, k=k, where=where, min_score=min_score)

    async def asearch(
        self,
        query: str | Vector,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """`search` without blocking the event loop: it runs in a thread of the loop."""
        return await asyncio.to_thread(self.search, query, k=k, where=where, min_score=min_score)

    def hybrid_search(
        self,
        text: str,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        language: str | None = None,
        text_weight: float = 1.0,
        vector_weight: float = 1.0,
        constant: int = 60,
    ) -> list[Hit]:
        """The `k` chunks that words and meaning find together, by reciprocal rank.

        `score` is the fused one: compare it within one search only. An index on the words makes it
        fast: `index_words`.

        Args:
            language: a text search configuration of PostgreSQL, such as english; default: that of
                the index on words, or `simple`.
            text_weight: how much the list that the words give counts.
            vector_weight: how much that of the vectors counts.
            constant: the larger, the less the first ranks count more than the next ones.
        """
        call = "hybrid_search"
        arguments.whole(call, "k", k)
        arguments.whole(call, "constant", constant)
        arguments.where(where, call)
        arguments.words(call, language=language)
        arguments.score(call, "text_weight", text_weight)
        arguments.score(call, "vector_weight", vector_weight)
        vector = self._vector(arguments.text(call, "text", text))
        options: dict[str, object] = {
            "k": k,
            "language": language,
            "text_weight": text_weight,
            "vector_weight": vector_weight,
            "constant": constant,
        }
        db = self._connections.db
        return related.hybrid_search(db, self.info, text, vector, where=where, options=options)

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
        budget_usd: float | None,
        delivery: Delivery,
        replace: bool,
        processes: int,
        on_window: Callable[[Enqueued], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> Job:
        from embedfleet_producer.enqueue import Producer

        arguments.function("enqueue", "chunk", chunk)
        arguments.budget("enqueue", budget_usd)
        producer = Producer(
            self._connections.db,
            self.info,
            self._connections.settings,
            self._connections.doorbell,
            chunk=chunk,
            replace=replace,
            processes=arguments.whole("enqueue", "processes", processes, most=MOST_PROCESSES),
        )
        enqueued = producer.enqueue(
            documents,
            budget_usd=budget_usd,
            delivery=delivery,
            on_window=on_window,
            stopping=stopping,
        )
        return Job(self._connections, enqueued.job_id, enqueued)


def _delivery(provider_batches: bool, lane: str | None) -> Delivery:
    """How texts are embedded, by the argument for it or by the former one."""
    arguments.flag("enqueue", "provider_batches", provider_batches)
    if lane is not None:
        arguments.choice("enqueue", "lane", lane, ("live", "batch"))
        warnings.warn(
            'enqueue(lane=...) is deprecated: lane="batch" is provider_batches=True',
            DeprecationWarning,
            stacklevel=4,  # the wrapper of `edge` stands in between
        )
    return "provider_batch" if provider_batches or lane == "batch" else "direct"
