"""What only the database knows of a fleet, in a few cheap statements of one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from embedfleet_schema.database import Database
from embedfleet_schema.metrics import EXPORTER_METRICS
from embedfleet_schema.statements import load
from embedfleet_schema.store import counters
from embedfleet_schema.store.workers import ALIVE
from embedfleet_schema.turns import LANES, PRIORITIES, lane_of
from embedfleet_schema.types import QUEUES

_SQL = load("monitoring")
_LABELS = {metric.name: metric.labels for metric in EXPORTER_METRICS}

QUANTILES = (0.5, 0.95, 0.99)
# A statement that takes longer is given up: who watches must not be what is in the way.
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of one metric of `embedfleet_schema.metrics`, with its labels in their order."""

    metric: str
    labels: tuple[str, ...]
    value: float

    def as_json(self) -> dict[str, Any]:
        names = _LABELS[self.metric]
        labels = dict(zip(names, self.labels, strict=True))
        return {"metric": self.metric, "labels": labels, "value": self.value}


def samples(db: Database) -> list[Sample]:
    """All of them at one moment.

    Raises:
        DatabaseUnreachable: nobody answers.
        psycopg.errors.QueryCanceled: a statement took longer than `PATIENCE_S`.
    """
    with db.transaction() as conn:
        conn.execute(_SQL["patience"], {"milliseconds": str(round(PATIENCE_S * 1000))})
        return [
            Sample(f"embedfleet_{name}", labels, float(value)) for name, labels, value in _all(conn)
        ]


_Found = Iterator[tuple[str, tuple[str, ...], float]]


def _all(conn: Connection[Any]) -> _Found:
    yield from _waiting(conn)
    yield from _working(conn)
    yield from _held(conn)
    yield from _paid_and_followed(conn)


def _waiting(conn: Connection[Any]) -> _Found:
    """Each queue and lane has its numbers, also where nothing waits: who asks for the sum of what
    is nowhere gets no answer.
    """
    found: dict[tuple[str, str], Sequence[float]] = {
        (queue, lane): (0, 0, 0, 0, 0, 0) for queue in QUEUES for lane in LANES
    }
    depth = _SQL["depth"].format(of_jobs=counters.OF_JOBS)
    for queue, lane, *numbers in conn.execute(depth):
        found[queue, lane] = numbers
    for labels, (chunks, tokens, pending, held, leased, _) in found.items():
        yield "queue_chunks", labels, chunks
        yield "queue_tokens", labels, tokens
        yield "queue_batches", (*labels, "pending"), pending
        yield "queue_batches", (*labels, "held"), held
        yield "queue_batches", (*labels, "leased"), leased
    yield "jobs", ("running",), sum(running for *_, running in found.values())
    for paused, budget in conn.execute(_SQL["standing_jobs"]):
        yield "jobs", ("paused",), paused
        yield "jobs", ("budget",), budget
    asked = {"queues": list(QUEUES), "priorities": [PRIORITIES[lane] for lane in LANES]}
    for queue, priority, seconds in conn.execute(_SQL["oldest"], asked):
        yield "queue_oldest_seconds", (queue, lane_of(priority)), seconds


def _working(conn: Connection[Any]) -> _Found:
    quantiles = {"quantiles": list(QUANTILES)}
    for queue, lane, quantile, seconds in conn.execute(_SQL["searchable"], quantiles):
        yield "searchable_seconds", (queue, lane, f"{quantile:g}"), seconds
    workers = conn.execute(_SQL["workers"].format(alive=ALIVE), {"queues": list(QUEUES)})
    for queue, alive, slots, blocked in workers:
        yield "workers_alive", (queue,), alive
        yield "worker_slots", (queue,), slots
        yield "workers_blocked", (queue,), blocked


def _held(conn: Connection[Any]) -> _Found:
    held = _SQL["collections"].format(of_collections=counters.OF_COLLECTIONS)
    for name, documents, chunks, vectors, failures in conn.execute(held):
        yield "collection_documents", (name,), documents
        yield "collection_chunks", (name,), chunks
        yield "collection_vectors", (name,), vectors
        yield "collection_failures", (name,), failures
    for code, count in conn.execute(_SQL["failures"]):
        yield "failures", (code,), count
    for space, code in conn.execute(_SQL["spaces"]):
        yield "space_paused", (space, code), 1


def _paid_and_followed(conn: Connection[Any]) -> _Found:
    for model, requests, tokens, usd in conn.execute(_SQL["usage"]):
        yield "usage_requests_total", (model,), requests
        yield "usage_tokens_total", (model,), tokens
        yield "usage_usd_total", (model,), usd
    for name, changes, lag_seconds, problem in conn.execute(_SQL["syncs"]):
        yield "sync_changes", (name,), changes
        yield "sync_lag_seconds", (name,), lag_seconds
        yield "sync_problem", (name,), problem
