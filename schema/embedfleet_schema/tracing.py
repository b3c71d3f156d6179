"""Traces, where a person turned them on: a span for each job here, one for each batch in a worker.

The job's context goes into its row, and into its batches' rows: a message carries no state. No
attribute holds a text, a key of a document or a reason that quotes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import CollectionInfo

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

NAME = "embedfleet"
_FEATURE = "EMBEDFLEET_TRACING"


def tracer() -> Tracer:
    """The tracer of the program's provider, whoever set that up.

    Raises:
        ExtraMissing: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ExtraMissing(feature=_FEATURE, extra="tracing") from error
    return trace.get_tracer(NAME)


def send_spans(service: str) -> None:
    """Send the spans of this process by OTLP, as OpenTelemetry's own variables (OTEL_...) say.

    For programs of ours. A program that uses the library keeps the provider that it has set up.

    Raises:
        ExtraMissing: the packages for that are not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ExtraMissing(feature=_FEATURE, extra="tracing") from error
    named = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush_spans() -> None:
    """Send what has not been sent: the process, or the child of a pool, ends."""
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(5_000)


class JobSpan:
    """The span of one call that makes a job; where tracing is off, nothing."""

    def __init__(self, kind: str, collection: CollectionInfo, *, on: bool) -> None:
        self._span: Span | None = None
        self.traceparent: str | None = None
        if on:
            attributes = {
                "embedfleet.collection": collection.name,
                "embedfleet.space": collection.space.name,
                "embedfleet.queue": collection.queue,
            }
            self._span = tracer().start_span(f"embedfleet.{kind}", attributes=attributes)
            self.traceparent = traceparent_of(self._span)

    def names_job(self, job_id: int) -> None:
        if self._span is not None:
            self._span.set_attribute("embedfleet.job", job_id)

    def end(self, error: BaseException | None = None) -> None:
        """The call is over; of an error only its kind is told: its words may quote a text."""
        if self._span is None:
            return
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, type(error).__name__)
        self._span.end()

    @contextmanager
    def ended_by_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.end(error)
            raise


def traceparent_of(span: Span) -> str | None:
    """The context of a span as W3C writes it; None where it has none, as without a provider."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(span))
    return carrier.get("traceparent")
