"""A collection as people use it: enqueue, search, delete, audit."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet import arguments
from embedfleet.edge import edge
from embedfleet.job import Job
from embedfleet.planning import Plan, make_plans
from embedfleet.upkeep import Upkeep
from embedfleet_producer.enqueue import Enqueued, Producer
from embedfleet_producer.handover import beside, fed
from embedfleet_producer.plan import Target
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_schema.store.search import explain_sql, script, search
from embedfleet_schema.types import Delivery, Document, Hit, Rejection

Vector = NDArray[np.float32] | Sequence[float]


@edge
class Collection(Upkeep):
    """A named set of documents in one embedding space. Get one from `Fleet.collection`.

    Once it is dropped, every call raises `CollectionGone`, also where another has got its name.
    """

    def enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        provider_batches: bool = False,
        replace: bool = False,
        on_window: Callable[[Enqueued], None] | None = None,
        lane: str | None = None,
    ) -> Job:
        """Store documents and queue what has to be embedded; a stream of any length.

        Returns when all is committed, whether or not Redis or a worker is there. A document whose
        key is known replaces the former one as soon as all of it is embedded; unchanged documents
        cost nothing. Bad documents get a verdict in `job.enqueued.rejections` and harm no other; so
        does a changed document whose key is stored with another source (KEY_TAKEN).

        If the stream raises, all that was read before is stored, and the error is raised here. A
        call that is interrupted keeps what was committed. Both leave a job that is `interrupted`:
        what it stored is embedded, and enqueueing again goes on with the rest.

        Args:
            documents: `Document` values from any iterable (or from `read_paths`).
            chunk: cuts a text in your own way; by default the collection's chunking does. It is
                called for unchanged documents too: its chunks tell whether they are unchanged.
            budget_usd: what the job may cost; it is paused before it would cost more.
            provider_batches: file the texts with the provider's batch API: half the price, and an
                answer within a day. OpenAI has one.
            replace: documents with a source also replace those of other sources.
            on_window: called after each committed window with the counts so far.
            lane: deprecated; lane="batch" is provider_batches=True.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            ProviderBatchesUnsupported: its provider has no batch API; nothing was stored.
            NotDocuments: something else than documents was given; nothing was stored.
        """
        arguments.function("enqueue", "on_window", on_window)
        return self._enqueue(
            documents,
            chunk=chunk,
            budget_usd=budget_usd,
            delivery=_delivery(provider_batches, lane),
            replace=replace,
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
        lane: str | None = None,
    ) -> Job:
        """`enqueue` beside a running event loop; takes asynchronous iterables too.

        If the call is cancelled, no further document is read, an asynchronous stream is closed, and
        what is committed stays, in a job that is `interrupted`.
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
        """What enqueueing these documents would do and cost; nothing is written or spent.

        `Fleet.plan` compares models, and plans for collections that do not exist yet.
        """
        arguments.function("plan", "chunk", chunk)
        self._check_there()
        target = Target(self.info.space, self.info.chunking, self.info)
        (made,) = make_plans(
            self._connections, self.name, [target], documents, chunk=chunk, replace=replace
        )
        return made

    def search(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> list[Hit]:
        """The `k` chunks nearest to a text (embedded here) or to a vector, best first.

        Args:
            query: a text, or a vector of shape (dimensions,) from the collection's space.
            where: metadata that a hit must contain: {"lang": "en"}. A value that is no text also
                finds its text, as a cell of CSV holds it.

        Raises:
            UnreadableQuery: the text is blank, or the model knows none of its words.
        """
        arguments.whole("search", "k", k)
        arguments.where(where)
        vector = self._vector(query)
        return search(self._connections.db, self.info, vector, k=k, where=where)

    async def asearch(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> list[Hit]:
        """`search` beside a running event loop, in a thread of the loop's own."""
        return await asyncio.to_thread(self.search, query, k=k, where=where)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, float32 of shape (dimensions,).

        It needs the model at hand, or the key of its provider; the same query is not paid for
        twice.
        """
        arguments.text("search", "query", text)
        self._check_there()
        return self._vector(text).copy()

    def search_sql(self, *, k: int = 10, where: Mapping[str, Any] | None = None) -> str:
        """What `search` runs, as one statement, with $1 for the query vector.

        It gives as many rows by itself. `search_script` has the settings with which an index scan
        does its part of it.
        """
        arguments.whole("search_sql", "k", k)
        arguments.where(where)
        self._check_there()
        return explain_sql(self.info, k=k, where=where)

    def search_script(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> str:
        """The statements that find what `search` finds, complete with vector and settings."""
        arguments.whole("search_script", "k", k)
        arguments.where(where)
        vector = self._vector(query)
        return script(self._connections.db, self.info, vector, k=k, where=where)

    def _enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None,
        budget_usd: float | None,
        delivery: Delivery,
        replace: bool,
        on_window: Callable[[Enqueued], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> Job:
        arguments.function("enqueue", "chunk", chunk)
        arguments.budget("enqueue", budget_usd)
        producer = Producer(
            self._connections.db,
            self.info,
            self._connections.settings,
            self._connections.doorbell,
            chunk=chunk,
            replace=replace,
        )
        enqueued = producer.enqueue(
            documents,
            budget_usd=budget_usd,
            delivery=delivery,
            on_window=on_window,
            stopping=stopping,
        )
        return Job(self._connections, enqueued.job_id, enqueued)

    def _vector(self, query: str | Vector) -> NDArray[np.float32]:
        if isinstance(query, str):
            arguments.text("search", "query", query)
            return self._connections.query_vectors.vector(self.info, query)
        return arguments.vector(self.info.space.name, query)


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
    return "provider_batch" if provider_batches or lane == "batch" else "live"
