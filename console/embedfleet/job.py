"""A job as people use it: look, wait, pause, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from embedfleet import arguments
from embedfleet.connections import Connections
from embedfleet.error_translation import translate_errors
from embedfleet.waiting import NO_WORKER_S, Waiting
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.store import collections, failures, jobs, webhooks
from embedfleet_schema.store.failures import FailureInfo
from embedfleet_schema.store.jobs import JobStatus
from embedfleet_schema.store.webhooks import WebhookInfo

if TYPE_CHECKING:
    from embedfleet_producer.enqueue import Enqueued


@translate_errors
class Job:
    """One call of enqueue, repair or retry; `enqueued` is set in the process that made it."""

    def __init__(
        self, connections: Connections, job_id: int, enqueued: Enqueued | None = None
    ) -> None:
        self._connections = connections
        self.id = job_id
        self.enqueued = enqueued

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    @property
    def status(self) -> JobStatus:
        """Where it stands now: counts, rate, ETA."""
        return jobs.status(self._connections.db, self.id)

    @property
    def webhook(self) -> WebhookInfo | None:
        """What became of the webhook that it was made with; None where it has none."""
        return webhooks.of_job(self._connections.db, self.id)

    @property
    def failures(self) -> list[FailureInfo]:
        """Failed chunks and rejected documents of this job."""
        db = self._connections.db
        return failures.listed(db, collections.find(db, self.status.collection), job_id=self.id)

    def wait(
        self,
        *,
        timeout_s: float | None = None,
        progress: bool = False,
        no_worker_s: float | None = NO_WORKER_S,
    ) -> JobStatus:
        """Wait until the job is done or cancelled, or interrupted and all that it had is embedded.

        Args:
            timeout_s: how long to wait. Default: until the end.
            progress: show it on the terminal.
            no_worker_s: how long nothing may happen while no worker runs. None: for ever.

        Raises:
            JobPaused: its budget is spent; it waits until you raise the budget.
            NoWorker: no worker embeds it; the message says how to start one.
            WaitTimeout: it is not finished after `timeout_s`; the job itself goes on.
        """
        waiting = self._waiting(timeout_s, no_worker_s)
        with self._shown(progress) as show:
            while True:
                status, rest = waiting.look()
                show(status)
                if not rest:
                    return status
                time.sleep(rest)

    async def wait_async(
        self,
        *,
        timeout_s: float | None = None,
        progress: bool = False,
        no_worker_s: float | None = NO_WORKER_S,
    ) -> JobStatus:
        """`wait` without blocking the event loop."""
        waiting = self._waiting(timeout_s, no_worker_s)
        with self._shown(progress) as show:
            while True:
                status, rest = await asyncio.to_thread(waiting.look)
                await asyncio.to_thread(show, status)
                if not rest:
                    return status
                await asyncio.sleep(rest)

    def pause(self) -> None:
        """Hold what waits. A batch on a local model, or a request under way, is finished."""
        jobs.pause(self._connections.db, self.id)

    def resume(self, *, budget_usd: float | None = None) -> None:
        """Resume a paused job, with another budget if you give one.

        Raises:
            BudgetSpent: its budget is spent: it needs a larger one.
        """
        arguments.budget("resume", budget_usd)
        jobs.resume(self._connections.db, self.id, budget_usd=budget_usd)
        self._connections.doorbell.ring(self.status.queue)

    def cancel(self) -> None:
        """Drop what waits. What is embedded stays. To embed the rest, enqueue again."""
        jobs.cancel(self._connections.db, self.id)

    def _waiting(self, timeout_s: float | None, no_worker_s: float | None) -> Waiting:
        for name, value in (("timeout_s", timeout_s), ("no_worker_s", no_worker_s)):
            if value is not None:
                arguments.amount("wait", name, value, unit="seconds")
        return Waiting(self._connections, self.id, timeout_s=timeout_s, no_worker_s=no_worker_s)

    @contextmanager
    def _shown(self, progress: bool) -> Iterator[Callable[[JobStatus], None]]:
        if not progress:
            yield lambda _: None
            return
        from embedfleet.progress import job_progress

        with job_progress(self._connections) as show:
            yield show

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._connections.db)
