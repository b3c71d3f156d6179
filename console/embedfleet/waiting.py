"""Waiting for a job: one look after the other, for a thread or for an event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedfleet.polling import rest_s, timed
from embedfleet_schema.errors import JobPaused, NoWorker, WaitTimeout
from embedfleet_schema.store import jobs

if TYPE_CHECKING:
    from embedfleet.connections import Connections
    from embedfleet_schema.store.jobs import JobStatus

FIRST_REST_S, LAST_REST_S = 0.1, 1.0
# How long a job may stand still while no worker lives that could embed it.
NO_WORKER_S = 15.0


class Waiting:
    """Looks at a job until it has ended, or until it is pointless to go on."""

    def __init__(
        self,
        connections: Connections,
        job_id: int,
        *,
        timeout_s: float | None,
        no_worker_s: float | None,
    ) -> None:
        self._connections = connections
        self._job_id = job_id
        self._timeout_s = timeout_s
        self._no_worker_s = no_worker_s
        self._began = self._moved = time.monotonic()
        self._seen = -1
        self._rest = FIRST_REST_S

    def look(self) -> tuple[JobStatus, float]:
        """Where the job stands, and the seconds until the next look: 0 where it has ended.

        Raises:
            JobPaused, NoWorker, WaitTimeout: it does not end by itself, or not in time.
        """
        status, looked_s = timed(lambda: jobs.status(self._connections.db, self._job_id))
        if status.finished:
            return status, 0.0
        if status.over_budget:
            raise JobPaused(job=status.id, reason=status.reason)
        now = time.monotonic()
        self._check_workers(status, now)
        rest = rest_s(self._rest, looked_s)
        self._rest = min(self._rest * 1.5, LAST_REST_S)
        if self._timeout_s is None:
            return status, rest
        left = self._began + self._timeout_s - now
        if left <= 0:
            raise WaitTimeout(job=status.id, timeout_s=self._timeout_s, progress=_progress(status))
        return status, min(rest, left)

    def _check_workers(self, status: JobStatus, now: float) -> None:
        """Tell a job that waits for a worker from one that nobody will ever take."""
        done = status.embedded + status.failed
        if done != self._seen or not status.queued or status.state == "paused":
            self._seen, self._moved = done, now
        if self._no_worker_s is None or now < self._moved + self._no_worker_s:
            return
        self._moved = now
        from embedfleet.liveness import will_have_worker
        from embedfleet.progress import command

        if will_have_worker(self._connections, status.queue):
            return
        settings = self._connections.settings
        words = (
            "up --workers 2" if settings.uses_embedded_stack else f"worker --queue {status.queue}"
        )
        raise NoWorker(
            queue=status.queue,
            job=status.id,
            progress=_progress(status),
            start=command(settings, words),
        )


def _progress(status: JobStatus) -> str:
    return f"{status.embedded} of {status.total} texts are embedded"
