"""A collection as people use it: enqueue, search, delete, audit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from embedfleet import arguments
from embedfleet.connections import Connections
from embedfleet.edge import edge
from embedfleet.job import Job
from embedfleet.planning import Plan, make_plans
from embedfleet_producer.budget import check_budget
from embedfleet_producer.enqueue import Enqueued, Producer
from embedfleet_producer.handover import beside, fed
from embedfleet_producer.plan import Target
from embedfleet_producer.ready_made import ChunkFunction
from embedfleet_schema.errors import CollectionGone, UnknownCollection, UnknownJob
from embedfleet_schema.foreign import translated
from embedfleet_schema.store import audit, collections, documents, grants, jobs, requeue
from embedfleet_schema.store.audit import Audit
from embedfleet_schema.store.collections import CollectionCounts
from embedfleet_schema.store.documents import Selection
from embedfleet_schema.store.drop import drop
from embedfleet_schema.store.explain import explain
from embedfleet_schema.store.explanation import Explanation
from embedfleet_schema.store.jobs import FailureInfo
from embedfleet_schema.store.search import explain_sql, script, search
from embedfleet_schema.types import CollectionInfo, Document, Hit, Lane, Rejection

# What PostgreSQL takes for `maintenance_work_mem` and for parallel maintenance workers.
MOST_MEMORY_MB, MOST_INDEX_WORKERS = 2_097_151, 1_024

Vector = NDArray[np.float32] | Sequence[float]


@edge
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
        on_window: Callable[[Enqueued], None] | None = None,
    ) -> Job:
        """Store documents and queue what has to be embedded; a stream of any length.

        Returns when all is committed, whether or not Redis or a worker is there. A document whose
        key is known replaces the former one as soon as all of it is embedded; unchanged documents
        cost nothing. Bad documents get a verdict in `job.enqueued.rejections` and harm no other.

        If the stream raises, all that was read before is stored, and the error is raised here. A
        call that is interrupted keeps what was committed. Both leave a job that is `interrupted`:
        what it stored is embedded, and enqueueing again goes on with the rest.

        Args:
            documents: `Document` values from any iterable (or from `read_paths`).
            chunk: cuts a text in your own way; by default the collection's chunking does. It is
                called for unchanged documents too: its chunks tell whether they are unchanged.
            budget_usd: what the job may cost; it is paused before it would cost more.
            lane: "batch" files the texts with the provider's batch API: half the price, and an
                answer within a day. OpenAI has one.
            on_window: called after each committed window with the counts so far.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was stored.
            LaneUnsupported: the model has no batch lane; nothing was stored.
            NotDocuments: something else than documents was given; nothing was stored.
        """
        arguments.function("enqueue", "on_window", on_window)
        return self._enqueue(
            documents, chunk=chunk, budget_usd=budget_usd, lane=lane, on_window=on_window
        )

    async def aenqueue(
        self,
        documents: Iterable[Document | Rejection] | AsyncIterable[Document],
        *,
        chunk: ChunkFunction | None = None,
        budget_usd: float | None = None,
        lane: Lane = "live",
    ) -> Job:
        """`enqueue` beside a running event loop; takes asynchronous iterables too.

        If the call is cancelled, no further document is read, an asynchronous stream is closed, and
        what is committed stays, in a job that is `interrupted`.
        """
        stopping = threading.Event()

        def run(stream: Iterable[Document | Rejection]) -> Job:
            return self._enqueue(
                stream, chunk=chunk, budget_usd=budget_usd, lane=lane, stopping=stopping
            )

        if isinstance(documents, AsyncIterable):
            return await fed(documents, run, stopping)
        return await beside(lambda: run(documents), stopping.set)

    def plan(
        self, documents: Iterable[Document | Rejection], *, chunk: ChunkFunction | None = None
    ) -> Plan:
        """What enqueueing these documents would do and cost; nothing is written or spent.

        `Fleet.plan` compares models, and plans for collections that do not exist yet.
        """
        arguments.function("plan", "chunk", chunk)
        target = Target(self.info.space, self.info.chunking, self.info)
        (made,) = make_plans(self._connections, self.name, [target], documents, chunk=chunk)
        return made

    def search(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> list[Hit]:
        """The `k` chunks nearest to a text (embedded here) or to a vector, best first.

        Args:
            query: a text, or a vector of shape (dimensions,) from the collection's space.
            where: metadata that a hit must contain: {"lang": "en"}.

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
        return self._connections.query_vectors.vector(self.info, text).copy()

    def search_sql(self, *, k: int = 10, where: Mapping[str, Any] | None = None) -> str:
        """What `search` runs, as one statement, with $1 for the query vector.

        It gives as many rows by itself. `search_script` has the settings with which an index scan
        does its part of it.
        """
        arguments.whole("search_sql", "k", k)
        arguments.where(where)
        return explain_sql(self.info, k=k, where=where)

    def search_script(
        self, query: str | Vector, *, k: int = 10, where: Mapping[str, Any] | None = None
    ) -> str:
        """The statements that find what `search` finds, complete with vector and settings."""
        arguments.whole("search_script", "k", k)
        arguments.where(where)
        vector = self._vector(query)
        self._check_there()
        return script(self._connections.db, self.info, vector, k=k, where=where)

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Remove documents, their chunks, and vectors that nobody else uses; returns their keys."""
        wanted = arguments.texts("delete", "keys", keys, '["vpn.md"]')
        self._check_there()
        return documents.delete(self._connections.db, self.info, wanted)

    def delete_matching(self, *, job_id: int | None = None, prefix: str | None = None) -> int:
        """Remove the documents that a job stored last, or whose keys begin with `prefix`.

        Returns how many there were. A document that the job replaced is removed, not restored.

        Raises:
            UsageError: nothing is selected.
            UnknownJob: the collection has no such job.
        """
        _check_job("delete_matching", job_id)
        if prefix is not None:
            arguments.text("delete_matching", "prefix", prefix)
        selection = Selection(job_id, prefix)
        self._check_there()
        if job_id is not None and Job(self._connections, job_id).status.collection != self.name:
            raise UnknownJob(job=job_id)
        return documents.delete_matching(self._connections.db, self.info, selection)

    def clear_failures(self) -> int:
        """Forget the verdicts on documents that were not accepted; returns how many there were.

        Chunks that cannot be embedded keep theirs: `retry` or `delete` ends those.
        """
        self._check_there()
        return documents.clear_rejections(self._connections.db, self.info)

    def audit(self, *, repair: bool = False, budget_usd: float | None = None) -> Audit:
        """Hold what is stored against what should be; with `repair`, queue what is missing.

        The result tells what was found; `job_id` names the job of a repair, which is paused before
        it would cost more than `budget_usd`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check("audit", budget_usd)
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
        _check_job("failures", job_id)
        arguments.whole("failures", "limit", limit, most=arguments.LARGEST_ID)
        self._check_there()
        return jobs.failures(self._connections.db, self.info, job_id=job_id, limit=limit)

    def explain(self, key: str) -> Explanation:
        """Why a document is not searchable yet, or that it is; `str()` of it is a paragraph."""
        arguments.text("explain", "key", key)
        self._check_there()
        return explain(self._connections.db, self.info, key)

    def retry(self, *, job_id: int | None = None, budget_usd: float | None = None) -> Job | None:
        """Try failed chunks again, of one job or all; None where none failed or all are queued.

        A failure stays in the list until its chunk has a vector or fails anew. The new job is
        paused before it would cost more than `budget_usd`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check("retry", budget_usd)
        _check_job("retry", job_id)
        self._check_there()
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
        if memory_mb is not None:
            arguments.whole("index", "memory_mb", memory_mb, most=MOST_MEMORY_MB)
        if workers is not None:
            arguments.whole("index", "workers", workers, least=0, most=MOST_INDEX_WORKERS)
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

    def drop(self, *, cascade: bool = False) -> list[str]:
        """Remove the collection with all its rows. There is no way back.

        Args:
            cascade: drop views of your own that read it, too; returns what went with it.

        Raises:
            ViewsInTheWay: there are such views, and no `cascade`.
        """
        return drop(self._connections.db, self.info, cascade=cascade)

    def grant(self, role: str) -> str:
        """Let a role of PostgreSQL search this collection and see no other text.

        Makes the function `embedfleet.search_<name>(query, k, filter)`, which runs with the rights
        of its owner, and returns its name. The owner of the schema does that.

        Raises:
            UnknownRole: the server has no such role.
            GrantUseless: it can read the fleet's tables or views already.
            LongName: the collection's name leaves no room for the function's.
        """
        arguments.text("grant", "role", role)
        self._check_there()
        return grants.grant(self._connections.db, self.info, role)

    def revoke(self, role: str) -> None:
        """Take back what `grant` gave to a role.

        Raises:
            UnknownRole: the server has no such role.
        """
        arguments.text("revoke", "role", role)
        self._check_there()
        grants.revoke(self._connections.db, self.info, role)

    def _enqueue(
        self,
        documents: Iterable[Document | Rejection],
        *,
        chunk: ChunkFunction | None,
        budget_usd: float | None,
        lane: Lane,
        on_window: Callable[[Enqueued], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> Job:
        arguments.function("enqueue", "chunk", chunk)
        arguments.budget("enqueue", budget_usd)
        arguments.choice("enqueue", "lane", lane, get_args(Lane))
        producer = Producer(
            self._connections.db,
            self.info,
            self._connections.settings,
            self._connections.doorbell,
            chunk=chunk,
        )
        enqueued = producer.enqueue(
            documents, budget_usd=budget_usd, lane=lane, on_window=on_window, stopping=stopping
        )
        return Job(self._connections, enqueued.job_id, enqueued)

    def _vector(self, query: str | Vector) -> NDArray[np.float32]:
        if isinstance(query, str):
            return self.embed_query(query)
        return arguments.vector(self.info.space.name, query)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._connections.db, self.info.name)

    def _check_there(self) -> None:
        """For what would find nothing in a collection that was dropped, and say no more."""
        with self._connections.db.connection() as conn:
            try:
                collections.by_id(conn, self.info.id)
            except UnknownCollection:
                raise CollectionGone(name=self.name) from None

    def _check(self, call: str, budget_usd: float | None) -> None:
        arguments.budget(call, budget_usd)
        check_budget(budget_usd, self.info.space, self._connections.settings.prices)

    @property
    def _budget(self) -> int:
        return self._connections.settings.batch_tokens(self.info.queue)


def _check_job(call: str, job_id: int | None) -> None:
    if job_id is not None:
        arguments.whole(call, "job_id", job_id, most=arguments.LARGEST_ID)


def _graph_mb(vectors: int, dimensions: int) -> int:
    """Memory for an HNSW graph with m = 16: the vectors and about 300 bytes of links for each.

    Between 64 MB and 2 GB: more may not be there, and a graph that does not fit is built on disk.
    """
    needed = vectors * (dimensions * 4 + 300) * 1.2 / 1_000_000
    return int(min(max(needed, 64), 2_048))
