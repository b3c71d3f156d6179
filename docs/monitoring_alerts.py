"""The alerts of a fleet: what docs/generate_monitoring.py reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """A rule of Prometheus; `runbook` is what to do, and stands in docs/monitoring.md."""

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str
    runbook: str


ALERTS = (
    Alert(
        "EmbedfleetExporterAway",
        "absent(embedfleet_database_up)",
        "5m",
        "critical",
        "No metrics of the fleet come in.",
        "Start `embedfleet exporter`, and look at its log. Without it, most alerts are blind.",
    ),
    Alert(
        "EmbedfleetDatabaseAway",
        "embedfleet_database_up == 0",
        "2m",
        "critical",
        "PostgreSQL does not answer the exporter.",
        "Run `embedfleet doctor`. Workers keep what they have embedded until their leases end, and"
        " go on by themselves.",
    ),
    Alert(
        "EmbedfleetRedisAway",
        "embedfleet_redis_up == 0",
        "5m",
        "warning",
        "Redis does not answer the exporter.",
        "Run `embedfleet doctor`. Nothing is lost: workers are not rung for, and rate limits are"
        " kept by each process for its share.",
    ),
    Alert(
        "EmbedfleetWorkersGone",
        'sum by (queue) (embedfleet_queue_batches{state="pending"}) > 0'
        " and on (queue) sum by (queue) (embedfleet_workers_alive) == 0",
        "5m",
        "critical",
        "Batches wait in queue {{ $labels.queue }}, and no worker serves it.",
        "Run `embedfleet status`. Start a worker of that queue, or look at the logs of those that"
        " should be there.",
    ),
    Alert(
        "EmbedfleetWorkersBlocked",
        "sum by (queue) (embedfleet_workers_blocked) > 0",
        "5m",
        "critical",
        "Workers of queue {{ $labels.queue }} claim nothing.",
        "Run `embedfleet status`: it shows their reason, most often a disk that is full.",
    ),
    Alert(
        "EmbedfleetInteractiveWaits",
        'max by (queue) (embedfleet_queue_oldest_seconds{lane="interactive"}) > 300',
        "5m",
        "warning",
        "The oldest interactive batch of queue {{ $labels.queue }} is"
        " {{ $value | humanizeDuration }} old.",
        "Run `embedfleet status`. Start more workers, or look for a space"
        " that cools or waits for a rate limit.",
    ),
    Alert(
        "EmbedfleetBulkWaits",
        'max by (queue) (embedfleet_queue_oldest_seconds{lane="bulk"}) > 86400',
        "30m",
        "warning",
        "The oldest bulk batch of queue {{ $labels.queue }} is"
        " {{ $value | humanizeDuration }} old.",
        "More comes in than is embedded. Start more workers, or raise the limit of the provider.",
    ),
    Alert(
        "EmbedfleetSearchableLate",
        'max by (queue) (embedfleet_searchable_seconds{lane="interactive", quantile="0.95"}) > 300',
        "10m",
        "warning",
        "It takes interactive work of queue {{ $labels.queue }}"
        " {{ $value | humanizeDuration }} until it is searchable.",
        "Look at the panels of the stages: a slow claim or commit is the database's, a slow embed"
        " the model's or the provider's.",
    ),
    Alert(
        "EmbedfleetFailuresRise",
        "sum by (collection) (delta(embedfleet_collection_failures[15m])) > 20",
        "5m",
        "warning",
        "Failures of collection {{ $labels.collection }} rise.",
        "Run `embedfleet failures` for the collection. Fix the cause, then `embedfleet retry`.",
    ),
    Alert(
        "EmbedfleetBatchesFail",
        'sum by (space) (rate(embedfleet_worker_batches_total{outcome=~"retry|fail|lost"}[15m]))'
        " / sum by (space) (rate(embedfleet_worker_batches_total[15m])) > 0.1",
        "15m",
        "warning",
        "More than a tenth of the batches of {{ $labels.space }} went wrong.",
        "Run `embedfleet status`, and look at the log of a worker: it says why, batch by batch.",
    ),
    Alert(
        "EmbedfleetLimiterWaits",
        "histogram_quantile(0.95, sum by (le, limit)"
        " (rate(embedfleet_worker_limiter_wait_seconds_bucket[10m]))) > 60",
        "15m",
        "warning",
        "Requests wait {{ $value | humanizeDuration }} for the rate limit of {{ $labels.limit }}.",
        "Run `embedfleet limits`. Raise the limit at the provider, set it with"
        " `embedfleet limits set`, or pause bulk jobs.",
    ),
    Alert(
        "EmbedfleetRateLimited",
        'sum by (limit) (rate(embedfleet_worker_requests_total{result="rate_limited"}[10m]))'
        " / sum by (limit) (rate(embedfleet_worker_requests_total[10m])) > 0.05",
        "15m",
        "warning",
        "{{ $labels.limit }} answers more than one request of twenty with 429.",
        "Run `embedfleet limits`: the limit that is kept is above the real one, or another program"
        " uses the account. Set the real one with `embedfleet limits set`.",
    ),
    Alert(
        "EmbedfleetProviderStopped",
        "max by (limit) (embedfleet_limit_stopped) == 1",
        "1m",
        "critical",
        "{{ $labels.limit }} refuses the account.",
        "Run `embedfleet limits` for the reason: a key or a bill. Then `embedfleet resume`.",
    ),
    Alert(
        "EmbedfleetSpacePaused",
        "max by (space, code) (embedfleet_space_paused) == 1",
        "1m",
        "critical",
        "The space {{ $labels.space }} is paused: {{ $labels.code }}.",
        "Run `embedfleet status` for the reason. What a provider refused needs a person; then"
        " `embedfleet resume`.",
    ),
    Alert(
        "EmbedfleetBudgetReached",
        'sum(embedfleet_jobs{state="budget"}) > 0',
        "1m",
        "warning",
        "A job stands still because its budget is spent.",
        "Run `embedfleet status`, then `embedfleet resume` with a larger budget, or"
        " `embedfleet cancel`.",
    ),
    Alert(
        "EmbedfleetSyncLags",
        "max by (collection) (embedfleet_sync_lag_seconds) > 600",
        "5m",
        "warning",
        "Collection {{ $labels.collection }} is {{ $value | humanizeDuration }} behind its table.",
        "Run `embedfleet sync list`. Look whether `embedfleet sync run` runs.",
    ),
    Alert(
        "EmbedfleetSyncStands",
        "max by (collection) (embedfleet_sync_problem) == 1",
        "5m",
        "critical",
        "The sync of collection {{ $labels.collection }} stands still.",
        "Run `embedfleet sync list`: it says why, and what to do.",
    ),
)
