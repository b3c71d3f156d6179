"""A job as people use it: look, wait, pause, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

from embedfleet.connections import Connections
from embedfleet.polling import rest_s, timed
from embedfleet_producer.enqueue import Enqueued
from embedfleet_schema.errors import JobPaused, WaitTimeout
from embedfleet_schema.store import collections, jobs
from embedfleet_schema.store.jobs import FailureInfo, JobStatus

FIRST_POLL_S, LAST_POLL_S = 0.1, 1.0


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
    def failures(self) -> list[FailureInfo]:
        """What of this job failed or was not accepted."""
        db = self._connections.db
        return jobs.failures(db, collections.find(db, self.status.collection), job_id=self.id)

    def wait(self, *, timeout_s: float | None = None, progress: bool = False) -> JobStatus:
        """Block until the job is done or cancelled; `progress` shows it on the terminal.

        Raises:
            JobPaused: it stands still for its budget's sake, until a person acts.
            WaitTimeout: it is not finished after `timeout_s`; it goes on all the same.
        """
        if progress:
            from embedfleet.progress import job_progress

            with job_progress(self._connections) as show:
                return self._wait(timeout_s, show)
        return self._wait(timeout_s, None)

    def pause(self) -> None:
        """Hold what waits; a batch on a local model, or a request under way, is finished."""
        jobs.pause(self._connections.db, self.id)

    def resume(self, *, budget_usd: float | None = None) -> None:
        """Let a paused job go on, with another budget if one is given.

        Raises:
            BudgetSpent: it was paused because its budget is spent, and needs a larger one.
        """
        jobs.resume(self._connections.db, self.id, budget_usd=budget_usd)
        self._connections.doorbell.ring(self.status.queue)

    def cancel(self) -> None:
        """Drop what waits. What is embedded stays; enqueueing again takes up the rest."""
        jobs.cancel(self._connections.db, self.id)

    def _wait(self, timeout_s: float | None, show: Callable[[JobStatus], None] | None) -> JobStatus:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = FIRST_POLL_S
        while True:
            status, looked_s = timed(lambda: self.status)
            if show is not None:
                show(status)
            if status.finished:
                return status
            if status.over_budget:
                raise JobPaused(job=self.id, reason=status.reason)
            if deadline is not None and time.monotonic() >= deadline:
                progress = f"{status.embedded} of {status.total} texts are embedded"
                raise WaitTimeout(job=self.id, timeout_s=timeout_s, progress=progress)
            rest = rest_s(pause, looked_s)
            left = rest if deadline is None else max(0.0, deadline - time.monotonic())
            time.sleep(min(rest, left))
            pause = min(pause * 1.5, LAST_POLL_S)
