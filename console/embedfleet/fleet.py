"""A fleet: one database, one broker, the collections in them."""

from __future__ import annotations

from pathlib import Path

from embedfleet.collection import Collection
from embedfleet.connections import Connections
from embedfleet.job import Job
from embedfleet_schema.errors import UnknownCollection, UsageError
from embedfleet_schema.settings import load_settings
from embedfleet_schema.spaces import parse_model, resolve_space
from embedfleet_schema.store import collections, jobs, workers
from embedfleet_schema.store.workers import QueueInfo, WorkerInfo
from embedfleet_schema.types import Chunking, Metric, Queue, Space, Storage


def connect(
    database_url: str | None = None,
    redis_url: str | None = None,
    *,
    data: str | Path | None = None,
    **settings: object,
) -> Fleet:
    """Open a fleet: from the arguments, else the environment, else the embedded stack.

    The embedded stack is started where it does not run. Other keyword arguments are settings by
    their names (`batch_tokens_cpu=4096`).

    Raises:
        DatabaseUnreachable: the database does not answer (on first use).
        ExtraMissing: no database is configured and the embedded stack is not installed.
    """
    found = load_settings(database_url=database_url, redis_url=redis_url, data=data, **settings)
    if found.uses_embedded_stack:
        from embedfleet.embedded import ready

        ready(found.data)
    return Fleet(found)


class Fleet(Connections):
    """The collections, jobs and workers of one database. Safe to share between threads."""

    def collection(
        self,
        name: str,
        model: str | None = None,
        *,
        chunking: Chunking | None = None,
        queue: Queue | None = None,
        storage: Storage | None = None,
        metric: Metric | None = None,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
    ) -> Collection:
        """Open the collection `name`; with a `model`, create it where it does not exist.

        Args:
            model: hub name, directory, or provider/name. Left out: the collection must exist.
            chunking: how documents are cut; by default as long as the model takes, no overlap.
            queue: which workers embed it; by default by the model's provider.
            storage: `vector` (float32) or `halfvec` (float16, half the size).
            metric: what nearness means; cosine by default.
            document_prompt, query_prompt: put before texts; by default what the model says.

        Raises:
            UnknownCollection: there is none of this name and no model was given.
            ModelMismatch: it exists with another model or another way to store it.
            ChunkingMismatch: it exists and cuts documents differently.
            ModelNotFound, BadModelName: the model cannot be found out about.
        """
        options = (storage, metric, document_prompt, query_prompt)
        try:
            known = collections.find(self.db, name)
        except UnknownCollection:
            if model is None:
                raise
            known = None
        if known is not None and all(option is None for option in options):
            same_model = model is None or parse_model(model) == _names(known.space)
            if same_model and chunking in (None, known.chunking):
                return Collection(self, known)
        if model is None:
            raise UsageError(reason=f"to compare options of collection {name!r}, name its model")
        space = resolve_space(
            model,
            storage=storage,
            metric=metric or "cosine",
            document_prompt=document_prompt,
            query_prompt=query_prompt,
        )
        wanted = chunking or (known.chunking if known else Chunking())
        chosen = queue or self._queue_for(space)
        return Collection(self, collections.create_or_open(self.db, name, space, wanted, chosen))

    def collections(self) -> list[Collection]:
        """All collections, by name."""
        return [Collection(self, info) for info in collections.list_all(self.db)]

    def job(self, job_id: int) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: there is none.
        """
        job = Job(self, job_id)
        _ = job.status
        return job

    def jobs(self, *, limit: int = 20) -> list[Job]:
        """The jobs that still run, then the newest of the others."""
        return [Job(self, job_id) for job_id in jobs.latest(self.db, limit=limit)]

    def workers(self) -> list[WorkerInfo]:
        """Worker processes that have not signed off; `silent_s` tells whether they still live."""
        return workers.list_alive(self.db)

    def queues(self) -> list[QueueInfo]:
        """Open batches by queue."""
        return workers.queues(self.db)

    def _queue_for(self, space: Space) -> Queue:
        if space.provider == "local":
            return self.settings.local_queue
        return "cpu" if space.provider == "fake" else "api"


def _names(space: Space) -> tuple[str, str]:
    return space.provider, space.model
