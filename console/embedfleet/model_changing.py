"""A model change, step by step: fill the other collection, build its indexes, let it serve.

Each step looks at what the tables say and does what is left. So whoever was cut off calls again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

import psycopg

from embedfleet.connections import Connections
from embedfleet.indexing import Indexing
from embedfleet.job import Job
from embedfleet_producer.budget import check_budget
from embedfleet_producer.following import Follower
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database_errors import ViewBusy
from embedfleet_schema.errors import (
    BudgetSpent,
    ModelChangeUnready,
    UsageError,
    WaitTimeout,
)
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.money import money
from embedfleet_schema.store import audit, like_indexes, locks, model_changes, vector_index
from embedfleet_schema.store.model_changes import ModelChange

# So long documents wait to be stored while the last ones are embedded. A producer waits a minute
# for a lock.
HOLD_S = 10.0
POLL_S = 0.05
# Changes that are left to the moment in which documents wait.
FEW = 100
# A switch waits for who reads the view, or for documents that came at that moment; then it is tried
# again, a little later.
TRIES = 8
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 3.0


Result = TypeVar("Result")


def patiently(name: str, move: Callable[[], Result]) -> Result:
    """The result of what replaces a view, tried again while somebody reads that.

    Raises:
        ViewBusy: somebody reads it for long.
    """
    pause_s = FIRST_PAUSE_S
    for _ in range(TRIES):
        try:
            return move()
        except psycopg.errors.LockNotAvailable:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
    raise ViewBusy(name=name)


class ModelChanging:
    """Takes a change on from where it is."""

    def __init__(
        self,
        connections: Connections,
        change: ModelChange,
        *,
        budget_usd: float | None = None,
        progress: bool = False,
    ) -> None:
        """`budget_usd` is for all that this object has embedded.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept.
        """
        settings = connections.settings
        check_budget(budget_usd, change.other.space, settings.prices)
        self._connections = connections
        self._db = connections.db
        self._change = change
        self._budget = budget_usd
        self._progress = progress
        self._failpoints = Failpoints.parse(settings.failpoints)

    @cached_property
    def _follower(self) -> Follower:
        """Made when it is needed: it loads the tokenizer of the other model."""
        connections = self._connections
        return Follower(self._db, self._change, connections.settings, connections.doorbell)

    def fill(self) -> None:
        """Bring everything to the other collection, and wait until it is embedded.

        Raises:
            JobPaused, BudgetSpent: the budget does not pay for more.
            NoWorker: no worker embeds it.
        """
        model_changes.list_documents(self._db, self._change)
        self._failpoints.hit("after_change_listed")
        # Documents that come meanwhile are followed until few are left, or it would not end.
        while self._follow() > FEW:
            pass
        # A call before this one may have left a job that goes on, or that its budget paused.
        for job_id in model_changes.open_jobs(self._db, self._change):
            Job(self._connections, job_id).wait(progress=self._progress)
        if self._lacking():
            # What a cancelled job left is queued again.
            self._wait(self._repair())

    def index(self) -> None:
        """Build the indexes that the one which serves has."""
        served, other = self._change.served, self._change.other
        like_indexes.build(self._db, served, other)
        there = vector_index.in_use(self._db, served)
        indexing = Indexing(self._connections, other)
        if there is None:
            if vector_index.settings(self._db, served).policy == "auto":
                indexing.follow_load()
        elif vector_index.in_use(self._db, other) is None:
            wanted = None if there.type == served.space.storage else there.type
            try:
                vector_index.chosen(other.space, there.method, wanted)
            except UsageError:
                indexing.index(filters=False)
            else:
                indexing.index(method=there.method, type=wanted, filters=False)
        self._failpoints.hit("after_change_indexed")

    def check_failures(self) -> None:
        """Raise ModelChangeUnready where chunks could not be found any more."""
        served = model_changes.failed_texts(self._db, self._change.served)
        other = model_changes.failed_texts(self._db, self._change.other)
        if other > served:
            chunks = quantity(other - served, "more chunk")
            name = self._change.other.name
            reason = (
                f"{chunks} cannot be embedded there (see: embedfleet failures {name}); to switch "
                "all the same, add --allow-failures"
            )
            raise ModelChangeUnready(name=self._change.name, reason=reason)

    def switch(self, *, keep_seconds: float | None = None) -> ModelChange:
        """Let the other collection serve, as soon as it lacks nothing.

        Raises:
            ModelChangeUnready: it lacks something, again and again.
            ViewBusy: somebody reads the view for long.
            NameInUse: others read the view, whose vectors will have another width.
        """
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, TRIES + 1):
            try:
                with self._held():
                    self._catch_up()
                    self._failpoints.hit("before_change_switched")
                    switched = model_changes.switch(
                        self._db, self._change, keep_seconds=keep_seconds
                    )
            except (ModelChangeUnready, psycopg.errors.LockNotAvailable) as error:
                if attempt == TRIES:
                    if isinstance(error, ModelChangeUnready):
                        raise
                    raise ViewBusy(name=self._change.name) from error
                self._connections.tell(f"Not switched yet, next try in {pause_s:.1f} s.")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
                self.fill()
            else:
                self._failpoints.hit("after_change_switched")
                return switched
        raise AssertionError

    def finish(self, *, cascade: bool) -> list[str]:
        """Drop what does not serve, and end the change."""
        self._failpoints.hit("before_change_finished")
        name = self._change.name
        return patiently(
            name, lambda: model_changes.finish(self._db, self._change, cascade=cascade)
        )

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody stores documents in the one that serves; readers and workers go on."""
        with self._db.transaction() as conn:
            locks.hold_writes(conn, self._change.served.id)
            yield

    def _catch_up(self) -> None:
        """Bring what came last, and wait until it is embedded, for as long as writers can."""
        until = time.monotonic() + HOLD_S
        while self._follow(until) > 0 or self._lacking():
            if time.monotonic() > until:
                reason = f"the last documents were not embedded within {HOLD_S:.0f} s"
                raise ModelChangeUnready(name=self._change.name, reason=reason)
            time.sleep(POLL_S)

    def _follow(self, until: float | None = None) -> int:
        """Bring what changed, and wait until it is embedded; returns how many changes it was."""
        done = self._follower.follow(budget_usd=self._budget)
        self._wait(done.job_id, until)
        return done.changed

    def _wait(self, job_id: int | None, until: float | None = None) -> None:
        if job_id is None:
            return
        job = Job(self._connections, job_id)
        timeout_s = None if until is None else max(0.0, until - time.monotonic())
        try:
            status = job.wait(timeout_s=timeout_s, progress=self._progress)
        except WaitTimeout as error:
            reason = "the last documents are not embedded yet"
            raise ModelChangeUnready(name=self._change.name, reason=reason) from error
        if self._budget is not None and status.spent_usd:
            left = self._budget - status.spent_usd
            if left <= 0:
                spent = money(status.spent_usd)
                raise BudgetSpent(job=job_id, spent=spent, budget=money(self._budget))
            self._budget = left

    def _repair(self) -> int | None:
        other = self._change.other
        batch_tokens = self._connections.settings.batch_tokens(other.queue)
        job_id = audit.repair(self._db, other, batch_tokens=batch_tokens, budget_usd=self._budget)
        if job_id is not None:
            self._connections.doorbell.ring(other.queue)
        return job_id

    def _lacking(self) -> bool:
        with self._db.transaction() as conn:
            return model_changes.lacking(conn, self._change) > 0
