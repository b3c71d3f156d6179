"""The panels of the dashboard, and the alerts: what docs/generate_monitoring.py reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A graph. `queries` are PromQL by legend, in the braces of Grafana."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    stacked: bool = False


@dataclass(frozen=True)
class Alert:
    """A rule of Prometheus; `runbook` is what to do, and stands in docs/monitoring.md."""

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str
    runbook: str


ROWS: dict[str, tuple[Panel, ...]] = {
    "What waits": (
        Panel(
            "Chunks that wait",
            {"{{queue}} {{lane}}": "sum by (queue, lane) (embedfleet_queue_chunks)"},
            stacked=True,
        ),
        Panel(
            "Tokens that wait",
            {"{{queue}} {{lane}}": "sum by (queue, lane) (embedfleet_queue_tokens)"},
            stacked=True,
        ),
        Panel(
            "Batches by state",
            {"{{queue}} {{state}}": "sum by (queue, state) (embedfleet_queue_batches)"},
        ),
        Panel(
            "Age of the oldest batch",
            {"{{queue}} {{lane}}": "max by (queue, lane) (embedfleet_queue_oldest_seconds)"},
            "s",
        ),
        Panel(
            "Time to searchable",
            {
                "{{queue}} {{lane}} p{{quantile}}": (
                    "max by (queue, lane, quantile) (embedfleet_searchable_seconds)"
                )
            },
            "s",
        ),
        Panel(
            "Time until the rest is embedded, at the speed of now",
            {
                "{{queue}}": (
                    "sum by (queue) (embedfleet_queue_tokens)"
                    " / on (queue) (sum by (queue) (rate(embedfleet_worker_tokens_total[10m])) > 0)"
                )
            },
            "s",
        ),
    ),
    "Speed": (
        Panel(
            "Chunks embedded",
            {"{{space}}": "sum by (space) (rate(embedfleet_worker_chunks_total[5m]))"},
            "ops",
            stacked=True,
        ),
        Panel(
            "Tokens embedded",
            {"{{space}}": "sum by (space) (rate(embedfleet_worker_tokens_total[5m]))"},
            "ops",
            stacked=True,
        ),
        Panel(
            "Time to searchable as workers see it, 95 %",
            {
                "{{queue}} {{lane}}": (
                    "histogram_quantile(0.95, sum by (le, queue, lane)"
                    " (rate(embedfleet_worker_searchable_seconds_bucket[10m])))"
                )
            },
            "s",
        ),
        Panel(
            "Seconds of batches by stage",
            {
                "{{queue}} {{stage}}": (
                    "sum by (queue, stage) (rate(embedfleet_worker_batch_seconds_sum[5m])) / ("
                    "sum by (queue, stage) (rate(embedfleet_worker_batch_seconds_count[5m])) > 0)"
                )
            },
            "s",
        ),
        Panel(
            "Batches by outcome",
            {"{{outcome}}": "sum by (outcome) (rate(embedfleet_worker_batches_total[5m]))"},
            "ops",
        ),
        Panel(
            "Share of padding",
            {
                "{{space}}": (
                    "sum by (space)"
                    ' (rate(embedfleet_worker_model_tokens_total{kind="padding"}[5m]))'
                    " / (sum by (space) (rate(embedfleet_worker_model_tokens_total[5m])) > 0)"
                )
            },
            "percentunit",
        ),
    ),
    "Workers": (
        Panel(
            "Workers alive",
            {
                "{{queue}}": "sum by (queue) (embedfleet_workers_alive)",
                "{{queue}} claim nothing": "sum by (queue) (embedfleet_workers_blocked)",
            },
        ),
        Panel("Slots", {"{{queue}}": "sum by (queue) (embedfleet_worker_slots)"}),
        Panel(
            "Processes by host",
            {"{{instance}} {{queue}}": "sum by (instance, queue) (embedfleet_worker_processes)"},
        ),
        Panel(
            "Device busy, of each process",
            {
                "{{instance}} {{device}}": (
                    "sum by (instance, device)"
                    " (rate(embedfleet_worker_device_busy_seconds_total[5m]))"
                    " / on (instance) group_left ()"
                    " (sum by (instance) (embedfleet_worker_processes) > 0)"
                )
            },
            "percentunit",
        ),
        Panel(
            "Engine and precision",
            {
                "{{space}} {{engine}} {{precision}} {{device}}": (
                    "sum by (space, engine, precision, device) (embedfleet_worker_model_processes)"
                )
            },
        ),
    ),
    "Providers": (
        Panel(
            "Rate limit in use",
            {
                "{{limit}} {{dimension}}": (
                    "sum by (limit, dimension) (embedfleet_limit_used_per_minute)"
                    " / (sum by (limit, dimension) (embedfleet_limit_per_minute) > 0)"
                )
            },
            "percentunit",
        ),
        Panel(
            "Requests that wait, and under way",
            {
                "{{limit}} wait": "sum by (limit) (embedfleet_limit_waiting)",
                "{{limit}} under way": "sum by (limit) (embedfleet_limit_in_flight)",
            },
        ),
        Panel(
            "Wait for the limiter, 95 %",
            {
                "{{limit}} {{lane}}": (
                    "histogram_quantile(0.95, sum by (le, limit, lane)"
                    " (rate(embedfleet_worker_limiter_wait_seconds_bucket[10m])))"
                )
            },
            "s",
        ),
        Panel(
            "Requests by result",
            {
                "{{limit}} {{result}}": (
                    "sum by (limit, result) (rate(embedfleet_worker_requests_total[5m]))"
                )
            },
            "ops",
        ),
        Panel(
            "Held back after a 429",
            {"{{limit}}": "max by (limit) (embedfleet_limit_paused_seconds)"},
            "s",
        ),
    ),
    "Money": (
        Panel(
            "USD an hour",
            {"{{model}}": "sum by (model) (increase(embedfleet_usage_usd_total[1h]))"},
            "currencyUSD",
        ),
        Panel(
            "USD since midnight UTC",
            {"{{model}}": "sum by (model) (embedfleet_usage_usd_total)"},
            "currencyUSD",
            stacked=True,
        ),
        Panel(
            "Tokens paid for an hour",
            {"{{model}}": "sum by (model) (increase(embedfleet_usage_tokens_total[1h]))"},
        ),
        Panel(
            "Requests paid for an hour",
            {"{{model}}": "sum by (model) (increase(embedfleet_usage_requests_total[1h]))"},
        ),
    ),
    "What is stored, and what is wrong": (
        Panel(
            "Chunks without a vector",
            {
                "{{collection}}": (
                    "sum by (collection) (embedfleet_collection_chunks)"
                    " - sum by (collection) (embedfleet_collection_vectors) > 0"
                )
            },
        ),
        Panel(
            "Documents", {"{{collection}}": "sum by (collection) (embedfleet_collection_documents)"}
        ),
        Panel("Failures by code", {"{{code}}": "sum by (code) (embedfleet_failures)"}),
        Panel(
            "Failures by collection",
            {"{{collection}}": "sum by (collection) (embedfleet_collection_failures) > 0"},
        ),
        Panel("Jobs", {"{{state}}": "sum by (state) (embedfleet_jobs)"}),
        Panel(
            "Lag of syncs",
            {"{{collection}}": "max by (collection) (embedfleet_sync_lag_seconds)"},
            "s",
        ),
        Panel(
            "Changes that syncs have not taken",
            {"{{collection}}": "sum by (collection) (embedfleet_sync_changes)"},
        ),
        Panel(
            "Servers that answer",
            {"PostgreSQL": "min(embedfleet_database_up)", "Redis": "min(embedfleet_redis_up)"},
        ),
        Panel(
            "How long the exporter looks",
            {"seconds": "max(embedfleet_exporter_query_seconds)"},
            "s",
        ),
    ),
}

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
