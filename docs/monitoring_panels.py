"""The panels of the dashboard: what docs/generate_monitoring.py reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A graph. `queries` are PromQL by legend, in the braces of Grafana."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    stacked: bool = False


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
