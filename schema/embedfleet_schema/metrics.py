"""The metrics of a fleet: names, labels and meaning. Workers and the exporter make theirs from
these lists, and docs/monitoring.md, the dashboards and the alerts are held against them.

No label holds a text, a key or a document's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricKind = Literal["counter", "gauge", "histogram"]

# Seconds. The stages of a batch of a small model take milliseconds, those of a provider minutes.
STAGE_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
WAIT_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; a counter's `name` ends in `_total`, and units are part of names."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = STAGE_BUCKETS

    @property
    def series(self) -> tuple[str, ...]:
        """The names that an expression may ask for."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


# Of a host: the sum of its worker processes.
WORKER_METRICS = (
    Metric("embedfleet_worker_processes", "gauge", "Processes that embed.", ("queue",)),
    Metric(
        "embedfleet_worker_model_processes",
        "gauge",
        "Processes that have a model loaded, with its engine and its precision.",
        ("space", "engine", "precision", "device"),
    ),
    Metric(
        "embedfleet_worker_batches_total",
        "counter",
        "Batches by what became of them: done, retry, defer, split, fail, stopped or lost.",
        ("queue", "lane", "space", "outcome"),
    ),
    Metric(
        "embedfleet_worker_chunks_total",
        "counter",
        "Chunks whose vectors were stored.",
        ("queue", "lane", "space"),
    ),
    Metric(
        "embedfleet_worker_tokens_total",
        "counter",
        "Their tokens, as they were counted when they were cut.",
        ("queue", "lane", "space"),
    ),
    Metric(
        "embedfleet_worker_batch_seconds",
        "histogram",
        "Seconds of a batch by stage: claim, embed or commit.",
        ("queue", "stage"),
    ),
    Metric(
        "embedfleet_worker_searchable_seconds",
        "histogram",
        "Seconds from the enqueueing of a batch until its vectors were stored.",
        ("queue", "lane"),
        WAIT_BUCKETS,
    ),
    Metric(
        "embedfleet_worker_device_busy_seconds_total",
        "counter",
        "Seconds in which a process ran its model. At most one for each second and process.",
        ("device",),
    ),
    Metric(
        "embedfleet_worker_model_tokens_total",
        "counter",
        "Tokens that went through a model: text, or padding beside it.",
        ("space", "kind"),
    ),
    Metric(
        "embedfleet_worker_limiter_wait_seconds",
        "histogram",
        "Seconds that a request to a provider waited for the rate limiter.",
        ("limit", "lane"),
        WAIT_BUCKETS,
    ),
    Metric(
        "embedfleet_worker_requests_total",
        "counter",
        "Requests to a provider by what came of them: answered, rate_limited (429), refused or"
        " faulty.",
        ("limit", "result"),
    ),
)

# What only the database and Redis know: asked by one program, for all of the fleet.
EXPORTER_METRICS = (
    Metric("embedfleet_database_up", "gauge", "1 where the database answered, else 0."),
    Metric("embedfleet_redis_up", "gauge", "1 where Redis answered, else 0."),
    Metric("embedfleet_exporter_query_seconds", "gauge", "How long the last look took."),
    Metric(
        "embedfleet_queue_chunks",
        "gauge",
        "Chunks that wait for their vector, those of paused jobs too.",
        ("queue", "lane"),
    ),
    Metric("embedfleet_queue_tokens", "gauge", "Their tokens.", ("queue", "lane")),
    Metric(
        "embedfleet_queue_batches",
        "gauge",
        "Batches by state: pending, held (their job or space is paused) or leased.",
        ("queue", "lane", "state"),
    ),
    Metric(
        "embedfleet_queue_oldest_seconds",
        "gauge",
        "Age of the oldest of the 500 batches that come next; 0 where none waits.",
        ("queue", "lane"),
    ),
    Metric(
        "embedfleet_searchable_seconds",
        "gauge",
        "Quantiles of the time from the enqueueing of a batch until its vectors were stored, over"
        " the last 15 minutes, of up to 1,000 batches of each job.",
        ("queue", "lane", "quantile"),
    ),
    Metric("embedfleet_workers_alive", "gauge", "Worker processes that beat.", ("queue",)),
    Metric("embedfleet_worker_slots", "gauge", "Batches that they take at once.", ("queue",)),
    Metric(
        "embedfleet_workers_blocked",
        "gauge",
        "Of these, processes that say why they claim nothing.",
        ("queue",),
    ),
    Metric("embedfleet_collection_documents", "gauge", "Documents.", ("collection",)),
    Metric("embedfleet_collection_chunks", "gauge", "Chunks.", ("collection",)),
    Metric("embedfleet_collection_vectors", "gauge", "Vectors.", ("collection",)),
    Metric("embedfleet_collection_failures", "gauge", "Failures.", ("collection",)),
    Metric(
        "embedfleet_failures",
        "gauge",
        "Failures by code, among the 100,000 newest.",
        ("code",),
    ),
    Metric(
        "embedfleet_jobs",
        "gauge",
        "Jobs that are not done: running, paused, or budget (paused, because that is spent).",
        ("state",),
    ),
    Metric(
        "embedfleet_space_paused",
        "gauge",
        "1 for a space that is paused, with its code.",
        ("space", "code"),
    ),
    Metric(
        "embedfleet_usage_requests_total",
        "counter",
        "Requests to providers since midnight UTC.",
        ("model",),
    ),
    Metric(
        "embedfleet_usage_tokens_total",
        "counter",
        "Tokens that providers counted since midnight UTC.",
        ("model",),
    ),
    Metric(
        "embedfleet_usage_usd_total",
        "counter",
        "USD spent since midnight UTC, as far as prices are known.",
        ("model",),
    ),
    Metric(
        "embedfleet_sync_lag_seconds",
        "gauge",
        "Age of the oldest change of a synced table that its collection lacks; 0 where none does.",
        ("collection",),
    ),
    Metric(
        "embedfleet_sync_changes",
        "gauge",
        "Statements whose changes a sync has not taken, 10,000 at most.",
        ("collection",),
    ),
    Metric(
        "embedfleet_sync_problem",
        "gauge",
        "1 where a sync says why it stands still, else 0.",
        ("collection",),
    ),
    Metric(
        "embedfleet_limit_per_minute",
        "gauge",
        "What the fleet keeps to of a provider's rate limit.",
        ("limit", "dimension"),
    ),
    Metric(
        "embedfleet_limit_used_per_minute",
        "gauge",
        "What the fleet used of it in the last minute.",
        ("limit", "dimension"),
    ),
    Metric("embedfleet_limit_waiting", "gauge", "Requests that wait for it.", ("limit",)),
    Metric("embedfleet_limit_in_flight", "gauge", "Requests under way.", ("limit",)),
    Metric(
        "embedfleet_limit_paused_seconds",
        "gauge",
        "For how long the fleet sends nothing yet, after a 429.",
        ("limit",),
    ),
    Metric(
        "embedfleet_limit_stopped",
        "gauge",
        "1 where a provider refuses the account, else 0.",
        ("limit",),
    ),
)

METRICS = (*WORKER_METRICS, *EXPORTER_METRICS)
