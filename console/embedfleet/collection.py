"""A collection as people use it: enqueue, search, delete, audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.connections import Connections
from embedfleet.job import Job
from embedfleet.planning import Plan, make_plans
from embedfleet_producer.budget import check_budget
from embedfleet_producer.enqueue import Enqueued, Producer
from embedfleet_producer.plan import Target
from embedfleet_producer.windows import blocking
from embedfleet_schema.store import audit, collections, documents, jobs, requeue
from embedfleet_schema.store.audit import Audit
from embedfleet_schema.store.collections import CollectionCounts
from embedfleet_schema.store.documents import DocumentInfo
from embedfleet_schema.store.explain import explain
from embedfleet_schema.store.explanation import Explanation
from embedfleet_schema.store.jobs import FailureInfo
from embedfleet_schema.store.search import explain_sql, search
from embedfleet_schema.types import Chunk, CollectionInfo, Document, Hit, Lane, Rejection

ChunkFunction = Callable[[str], Iterable[str | Chunk]]
Vector = NDArray[np.float32] | Sequence[float]


class Collection:
    """A named set of documents in one embedding space. Get one from `Fleet.collection`."""

    def __init__(self, connections: Connections, info: CollectionInfo) -> None:
        self._connections = connections
        self.info = info

    @property
    def name(self) -> str:
        """Also the name of the SQL view: `embedfleet.<name>`."""
        return self.info.name

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} of {self.info.space.name}>"

    def enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        lane: Lane = "live",
        replace: bool = False,
        on_window: Callable[[Enqueued], None] | None = None,
    ) -> Job:
        """Store documents and queue what has to be embedded; a stream of any length.

        Returns when all is committed, whether or not Redis or a worker is there. A document whose
        key is known replaces the former one as soon as all of it is embedded; unchanged documents
        cost nothing. Bad documents get a verdict in `job.enqueued.rejections` and harm no other; so
        does a changed document whose key is stored with another source (KEY_TAKEN).

        Args:
            documents: `Document` values from any iterable (or from `read_paths`).
            chunk: cuts a text in your own way; by default the collection's chunking does.
            budget_usd: the job is paused when it has spent that much; what is under way at that
                moment is still paid for.
            lane: "batch" files the texts with the provider's batch API: half the price, and an
                answer within a day. OpenAI has one.
            replace: documents with a source also replace those of other sources.
            on_window: called after each committed window with the counts so far.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            LaneUnsupported: the model has no batch lane; nothing was stored.
        """
        producer = Producer(
            self._connections.db,
            self.info,
            self._connections.settings,
            self._connections.doorbell,
            chunk=chunk,
            replace=replace,
        )
        enqueued = producer.enqueue(
            documents, budget_usd=budget_usd, lane=lane, on_window=on_window
        )
        return Job(self._connections, enqueued.job_id, enqueued)

    async def aenqueue(
        self,
        documents: Iterable[Document | Rejection] | AsyncIterable[Document],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        lane: Lane = "live",
        replace: bool = False,
    ) -> Job:
        """`enqueue` beside a running event loop; takes asynchronous iterables too."""
        if isinstance(documents, AsyncIterable):
            stream: Iterable[Document | Rejection] = blocking(documents, asyncio.get_running_loop())
        else:
            stream = documents
        return await asyncio.to_thread(
            self.enqueue, stream, chunk=chunk, budget_usd=budget_usd, lane=lane, replace=replace
        )

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
        """
        vector = self.embed_query(query) if isinstance(query, str) else query
        return search(self._connections.db, self.info, vector, k=k, where=where)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, float32 of shape (dimensions,).

        It needs the model at hand, or the key of its provider; the same query is not paid for
        twice.
        """
        return self._connections.query_vectors.vector(self.info, text).copy()

    def search_sql(self, *, k: int = 10, where: Mapping[str, Any] | None = None) -> str:
        """The SQL that `search` runs, with $1 for the query vector."""
        return explain_sql(self.info, k=k, where=where)

    def documents(self, *, prefix: str = "") -> Iterator[DocumentInfo]:
        """What is stored, by key: source, chunks, whether it is live. Read a page at a time."""
        return documents.listed(self._connections.db, self.info, prefix=prefix)

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Remove documents, their chunks, and vectors that nobody else uses; returns their keys."""
        return documents.delete(self._connections.db, self.info, keys)

    def audit(self, *, repair: bool = False, budget_usd: float | None = None) -> Audit:
        """Hold what is stored against what should be; with `repair`, queue what is missing.

        The result tells what was found; `job_id` names the job of a repair, which is paused when it
        has spent `budget_usd`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check(budget_usd)
        found = audit.audit(self._connections.db, self.info)
        if not repair:
            return found
        job_id = audit.repair(
            self._connections.db, self.info, budget=self._budget, budget_usd=budget_usd
        )
        if job_id is not None:
            self._connections.doorbell.ring(self.info.queue)
        return found.repaired_by(job_id)

    def failures(self, *, job_id: int | None = None, limit: int = 1_000) -> list[FailureInfo]:
        """Chunks that cannot be embedded and documents that were not accepted, newest first."""
        return jobs.failures(self._connections.db, self.info, job_id=job_id, limit=limit)

    def explain(self, key: str) -> Explanation:
        """Why a document is not searchable yet, or that it is; `str()` of it is a paragraph."""
        return explain(self._connections.db, self.info, key)

    def retry(self, *, job_id: int | None = None, budget_usd: float | None = None) -> Job | None:
        """Try failed chunks again, of one job or all; None where none failed or all are queued.

        A failure stays in the list until its chunk has a vector or fails anew. The new job is
        paused when it has spent `budget_usd`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check(budget_usd)
        new = requeue.retry_failures(
            self._connections.db,
            self.info,
            budget=self._budget,
            job_id=job_id,
            budget_usd=budget_usd,
        )
        if new is None:
            return None
        self._connections.doorbell.ring(self.info.queue)
        return Job(self._connections, new)

    def index(self, *, memory_mb: int | None = None, workers: int | None = None) -> str | None:
        """Build the HNSW index without blocking writers; None where there is one already."""
        counts = self.counts()
        return collections.build_index(
            self._connections.db,
            self.info,
            memory_mb=memory_mb or _graph_mb(counts.vectors, self.info.space.dimensions),
            workers=2 if workers is None else workers,
        )

    def counts(self) -> CollectionCounts:
        """How many documents, vectors and failures there are, and whether there is an index."""
        return collections.counts(self._connections.db, self.info)

    def drop(self) -> None:
        """Remove the collection with all its rows. There is no way back."""
        collections.drop(self._connections.db, self.info)

    def _check(self, budget_usd: float | None) -> None:
        check_budget(budget_usd, self.info.space, self._connections.settings.prices)

    @property
    def _budget(self) -> int:
        return self._connections.settings.batch_tokens(self.info.queue)


def _graph_mb(vectors: int, dimensions: int) -> int:
    """Memory for an HNSW graph with m = 16: the vectors and about 300 bytes of links for each.

    Between 64 MB and 2 GB: more may not be there, and a graph that does not fit is built on disk.
    """
    needed = vectors * (dimensions * 4 + 300) * 1.2 / 1_000_000
    return int(min(max(needed, 64), 2_048))
