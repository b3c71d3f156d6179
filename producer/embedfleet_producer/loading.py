"""A job while its producer hands over documents: it beats, and ends loaded or interrupted."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

import psycopg

from embedfleet_producer.retries import retried
from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import jobs, webhooks
from embedfleet_schema.store.jobs import JobKind
from embedfleet_schema.tracing import JobSpan
from embedfleet_schema.turns import Turn
from embedfleet_schema.types import CollectionInfo, Delivery

log = logging.getLogger(__name__)


class Loading:
    """Makes a job and says, while the block lasts, that its producer lives; gives the job's id.

    A thread says it, however long the caller's source takes for one document. At the end of the
    block the job is loaded, or interrupted where the block was left by an error. A process that
    dies says nothing more, and is taken for interrupted by the clock of the database.
    """

    def __init__(
        self,
        db: Database,
        collection: CollectionInfo,
        settings: Settings,
        *,
        budget_usd: float | None,
        delivery: Delivery,
        turn: Turn,
        kind: JobKind = "enqueue",
        webhook: str | None = None,
    ) -> None:
        """`webhook` is the URL to tell when the job has ended."""
        self._db = db
        self._lease_s = settings.lease_seconds
        self._every_s = settings.heartbeat_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="embedfleet-loading", daemon=True)
        self._span = JobSpan(kind, collection, on=settings.tracing)
        with self._span.ended_by_error(), db.transaction() as conn:
            self._job_id = jobs.create(
                conn,
                collection,
                kind,
                budget_usd=budget_usd,
                delivery=delivery,
                turn=turn,
                loading_seconds=self._lease_s,
                traceparent=self._span.traceparent,
            )
            if webhook is not None:
                webhooks.create(conn, self._job_id, webhook)
        self._span.names_job(self._job_id)

    def __enter__(self) -> int:
        self._thread.start()
        return self._job_id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if error is None:
            with self._span.ended_by_error():
                retried(lambda _: self._loaded())
            self._span.end()
            return
        self._span.end(error)
        try:
            with self._db.transaction() as conn:
                jobs.interrupted(conn, self._job_id)
        except (psycopg.Error, EmbedfleetError) as failed:
            # It is taken for interrupted all the same, a little later.
            log.warning("job %d is not marked interrupted: %s", self._job_id, type(failed).__name__)

    def _loaded(self) -> None:
        with self._db.transaction() as conn:
            jobs.loaded(conn, self._job_id)

    def _beat(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                with self._db.transaction() as conn:
                    jobs.still_loading(conn, self._job_id, loading_seconds=self._lease_s)
            except (psycopg.Error, EmbedfleetError) as error:
                log.debug("job %d: no beat: %s", self._job_id, type(error).__name__)
