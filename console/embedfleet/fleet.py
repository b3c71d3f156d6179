"""A fleet: one database, one broker, the collections in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from embedfleet import arguments
from embedfleet.api_keys import HasApiKeys
from embedfleet.collection import Collection
from embedfleet.error_translation import translate_errors
from embedfleet.job import Job
from embedfleet.sync import Syncs
from embedfleet.tenants import Tenants
from embedfleet_schema.catalogue.matryoshka import doubt
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import (
    BadArgument,
    UnknownCollection,
    UnknownJob,
    UsageError,
)
from embedfleet_schema.store import collections, jobs, spaces, usage, workers
from embedfleet_schema.store.jobs import JobStatus
from embedfleet_schema.store.spaces import PausedSpace
from embedfleet_schema.store.usage import UsageOfDay
from embedfleet_schema.store.workers import QueueInfo, WorkerInfo
from embedfleet_schema.types import (
    LARGEST_ID,
    QUEUES,
    Chunking,
    CollectionInfo,
    DemandedPrecision,
    Document,
    Metric,
    Queue,
    Rejection,
    Reuse,
    Storage,
    VectorOptions,
)

if TYPE_CHECKING:
    from embedfleet.limits import Limits
    from embedfleet.planning import Plan
    from embedfleet_producer.plan import Counted
    from embedfleet_producer.ready_made import ChunkFunction

log = logging.getLogger(__name__)

# A century of the ledger.
MOST_DAYS = 36_500


@translate_errors
class Fleet(HasApiKeys, Syncs):
    """The collections, jobs and workers of one database. Safe to share between threads."""

    def collection(
        self,
        name: str,
        model: str | None = None,
        *,
        chunking: Chunking | None = None,
        queue: Queue | None = None,
        dimensions: int | None = None,
        max_tokens: int | None = None,
        storage: Storage | None = None,
        metric: Metric | None = None,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
        reuse: Reuse | None = None,
        precision: DemandedPrecision | None = None,
        filter_index: bool = True,
    ) -> Collection:
        """Open the collection `name`. With a `model`, create it if it does not exist.

        Args:
            model: name on the hub, directory, or provider/name. Without it, the collection must
                exist.
            chunking: how documents are cut. Default: chunks of 400 tokens, or of what the model
                takes if that is less, without overlap.
            queue: which workers embed it. Default: by the model's provider.
            dimensions: of the vectors, if a model behind an API offers several, or is unknown.
                Those of a local model are cut to so many, and made of unit length again.
            max_tokens: most tokens of a text, for a model behind an API that is unknown here.
            storage: `vector` (float32) or `halfvec` (float16, half the size).
            metric: how the distance of vectors is measured. Default: cosine.
            document_prompt, query_prompt: put before texts. Default: what the model says.
            reuse: `none` shares no vectors with other collections of the space, in neither
                direction. (Shared vectors tell whether another collection has a text.)
            precision: `float32`, for all workers that embed it, whatever they are set to. It takes
                over no vectors of collections that leave it open.
            filter_index: create a new collection with an index on metadata, for fast searches with
                `where`. Without it, documents are stored faster; `index` builds it later.

        Raises:
            UnknownCollection: there is none of this name and no model was given.
            ModelMismatch: it exists with another model or another storage.
            ChunkingMismatch, ReuseMismatch, PrecisionMismatch: it exists with another one.
            BadChunking: it is new, and this chunking cannot work.
            ModelNotFound, BadModelName: there is no such model, or nothing is known about it.
        """
        arguments.text("collection", "name", name)
        arguments.words(
            "collection", model=model, document_prompt=document_prompt, query_prompt=query_prompt
        )
        arguments.numbers("collection", dimensions=dimensions, max_tokens=max_tokens)
        for word, value, values in (
            ("queue", queue, QUEUES),
            ("storage", storage, get_args(Storage)),
            ("metric", metric, get_args(Metric)),
            ("reuse", reuse, get_args(Reuse)),
            ("precision", precision, get_args(DemandedPrecision)),
        ):
            if value is not None:
                arguments.choice("collection", word, value, values)
        arguments.flag("collection", "filter_index", filter_index)
        if chunking is not None:
            arguments.chunking("collection", chunking)
        options = {
            "dimensions": dimensions,
            "max_tokens": max_tokens,
            "storage": storage,
            "metric": metric,
            "document_prompt": document_prompt,
            "query_prompt": query_prompt,
        }
        vectors = VectorOptions(reuse, precision)
        opened = self._opened(name, model, chunking, queue, vectors, options, filter_index)
        return Collection(self, opened)

    def plan(
        self,
        name: str,
        documents: Iterable[Document | Rejection],
        model: str | None = None,
        *,
        compare: Sequence[str] = (),
        chunking: Chunking | None = None,
        dimensions: int | None = None,
        max_tokens: int | None = None,
        chunk: ChunkFunction | None = None,
        replace: bool = False,
        source: str | None = None,
        mirror: bool = False,
        on_window: Callable[[Counted], None] | None = None,
    ) -> list[Plan]:
        """What enqueueing documents would do and cost with one model or several, side by side.

        Nothing is written and nothing is spent. The first plan is that of the collection, or of
        `model` if there is no collection `name` yet. Then come those of `compare`.

        Args:
            compare: other models; "openai/text-embedding-3-large@1024" sets the dimensions.
            chunking, dimensions, max_tokens: as for `collection`, of a new one.
            replace, source, mirror: as for `Collection.enqueue`.
            on_window: called after each window with the counts of the first plan so far.

        Raises:
            UnknownCollection: there is none of this name and no model was given.
            ModelMismatch: it exists with another model.
            ChunkingMismatch: it exists and cuts documents differently.
            BadChunking: it does not exist, and this chunking cannot work.
        """
        from embedfleet.planning import compared, first_target, make_plans

        arguments.text("plan", "name", name)
        arguments.words("plan", model=model)
        arguments.numbers("plan", dimensions=dimensions, max_tokens=max_tokens)
        others = arguments.texts("plan", "compare", compare, '["openai/text-embedding-3-large"]')
        arguments.function("plan", "chunk", chunk)
        arguments.function("plan", "on_window", on_window)
        if chunking is not None:
            arguments.chunking("plan", chunking)
        first = first_target(self.db, name, model, chunking, dimensions, max_tokens)
        targets = [first, *(compared(each, first.chunking) for each in others)]
        return make_plans(
            self,
            name,
            targets,
            documents,
            chunk=chunk,
            replace=replace,
            source=source,
            mirror=mirror,
            on_window=on_window,
        )

    def usage(self, *, days: int = 30) -> list[UsageOfDay]:
        """What was spent, by day (UTC) and model, by the providers' counts; newest day first."""
        return usage.by_day(self.db, arguments.whole("usage", "days", days, most=MOST_DAYS))

    def collections(self) -> list[Collection]:
        """All collections, by name."""
        return [Collection(self, info) for info in collections.list_all(self.db)]

    def job(self, job_id: int) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: there is none.
        """
        try:
            number = arguments.whole("job", "job_id", job_id, most=LARGEST_ID)
        except BadArgument:
            raise UnknownJob(job=arguments.shown(job_id)) from None
        job = Job(self, number)
        _ = job.status
        return job

    def jobs(self, *, limit: int = 20) -> list[Job]:
        """The jobs that still run, then the newest of the others."""
        arguments.whole("jobs", "limit", limit, most=LARGEST_ID)
        return [Job(self, job_id) for job_id in jobs.latest(self.db, limit=limit)]

    def statuses(self, *, limit: int = 20) -> list[JobStatus]:
        """Where these jobs stand, looked up at once."""
        arguments.whole("statuses", "limit", limit, most=LARGEST_ID)
        return jobs.statuses(self.db, jobs.latest(self.db, limit=limit))

    @property
    def limits(self) -> Limits:
        """The rate limits of providers: set them, and see how they are kept."""
        from embedfleet.limits import Limits

        return Limits(self.db, self.settings.redis)

    @property
    def tenants(self) -> Tenants:
        """Who shares the workers: set weights, and see who waits."""
        return Tenants(self.db)

    def workers(self) -> list[WorkerInfo]:
        """Worker processes that have not ended; `is_alive` says whether they send heartbeats."""
        return workers.recent(self.db)

    def queues(self) -> list[QueueInfo]:
        """Open batches by queue."""
        return workers.queues(self.db)

    def paused(self) -> list[PausedSpace]:
        """Paused models, because their provider refuses: nothing of them is embedded."""
        return spaces.paused(self.db)

    def resume(self, model: str) -> bool:
        """Resume a paused model (`provider/model`), after you fixed the cause at the provider.

        Paused jobs stay paused. Returns whether the model was paused.

        Raises:
            UnknownModel: no collection uses it.
        """
        from embedfleet.provider_stops import clear_provider_stop

        arguments.text("resume", "model", model)
        # First, or a worker could take a batch and be stopped again by what is to be cleared.
        clear_provider_stop(self.settings.redis, model)
        resumed = spaces.resume(self.db, model)
        alive = self.workers()
        for queue in resumed.queues:
            slots = sum(worker.slots for worker in alive if queue in worker.queues)
            self.doorbell.ring(queue, max(1, slots))
        return resumed.paused

    def _opened(
        self,
        name: str,
        model: str | None,
        chunking: Chunking | None,
        queue: Queue | None,
        vectors: VectorOptions,
        options: Mapping[str, Any],
        filter_index: bool,
    ) -> CollectionInfo:
        """A collection that is there as it is wanted, or is made so."""
        try:
            known = collections.find(self.db, name)
        except UnknownCollection:
            if model is None:
                raise
            known = None
        named = {word: value for word, value in options.items() if value is not None}
        if known is not None and not named and collections.is_of(known, model):
            collections.check_chunking(known, chunking)
            collections.check_vectors(known, vectors)
            return known
        if model is None:
            raise UsageError(reason=f"to compare options of collection {name!r}, name its model")
        from embedfleet_producer.chunking import settled

        space = resolve_space(model, **named)
        if vectors.precision is not None and space.provider != "local":
            raise UsageError(reason=f"precision is for local models, not for {space.name}")
        if known is None:
            wanted = settled(space, chunking or Chunking())
            if doubts := doubt(space):
                log.warning("%s. Measure what is lost: embedfleet eval", doubts)
        else:
            wanted = chunking or known.chunking
        chosen = queue or self.queue_for(space)
        return collections.create_or_open(
            self.db, name, space, wanted, chosen, vectors, filter_index=filter_index
        )
