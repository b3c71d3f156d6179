"""A span for each batch, with its stages as children, under the span of its job.

They are made when the batch has ended, of what the pipeline measured: it knows nothing of traces.
So a batch whose worker died has no span; its next attempt has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from embedfleet_schema.tracing import tracer
from embedfleet_workers.pipeline import BatchStats, Outcome

# Nothing went wrong with the batch itself.
_FINE = (Outcome.DONE, Outcome.DEFER)


def batch_spans() -> Callable[[BatchStats], None]:
    """What makes spans of batches.

    Raises:
        ExtraMissing: OpenTelemetry is not installed.
    """
    spans = tracer()
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()

    def note(stats: BatchStats) -> None:
        carrier = {} if stats.traceparent is None else {"traceparent": stats.traceparent}
        parent = propagator.extract(carrier, context=Context())
        stages = {"claim": stats.claim_s, "embed": stats.embed_s, "commit": stats.commit_s}
        # A trace shows the clock of its machine; nothing is decided by it.
        end_ns = time.time_ns()
        start_ns = end_ns - int(sum(stages.values()) * 1e9)
        span = spans.start_span(
            "embedfleet.batch",
            context=parent,
            kind=SpanKind.CONSUMER,
            start_time=start_ns,
            attributes={
                "embedfleet.batch": stats.batch,
                "embedfleet.job": stats.job,
                "embedfleet.queue": stats.queue,
                "embedfleet.lane": stats.lane,
                "embedfleet.space": stats.space,
                "embedfleet.outcome": stats.outcome.value,
                "embedfleet.chunks": stats.texts,
                "embedfleet.tokens": stats.tokens,
                "embedfleet.waited_seconds": stats.waited_s,
            },
        )
        if stats.outcome not in _FINE:
            span.set_status(StatusCode.ERROR, stats.outcome.value)
        inside = set_span_in_context(span)
        for stage, seconds in stages.items():
            stage_end_ns = start_ns + int(seconds * 1e9)
            child = spans.start_span(f"embedfleet.{stage}", context=inside, start_time=start_ns)
            child.end(stage_end_ns)
            start_ns = stage_end_ns
        span.end(end_ns)

    return note
