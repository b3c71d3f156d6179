"""Spans of jobs and batches, from the call that enqueues to the worker that embeds."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema import tracing
from embedfleet_workers import signals
from embedfleet_workers.monitoring.spans import batch_spans
from plugins.fleets import ask, documents, drain
from plugins.worker_processes import eventually

WORDS = "the words of a document"


@pytest.fixture
def spans(monkeypatch) -> InMemorySpanExporter:
    """The spans of this process, by a provider that a program set up."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.fixture
def traced(fleet) -> Iterator[Fleet]:
    with Fleet(fleet.settings.model_copy(update={"tracing": True})) as other:
        yield other


@pytest.fixture
def watched(spans) -> Iterator[None]:
    note = batch_spans()
    signals.batch_ended.connect(note)
    yield
    signals.batch_ended.disconnect(note)


def test_a_batch_is_a_child_of_its_job_and_its_stages_are_its_children(
    traced, worker, spans, watched
):
    docs = traced.collection("docs", model="fake/16")
    with trace.get_tracer("a program").start_as_current_span("around"):
        job = docs.enqueue([ef.Document("secret-key", WORDS)])
    drain(worker())
    found = {span.name: span for span in spans.get_finished_spans()}
    enqueued, batch = found["embedfleet.enqueue"], found["embedfleet.batch"]
    assert found["around"].context.span_id == enqueued.parent.span_id
    assert enqueued.context.span_id == batch.parent.span_id
    assert enqueued.context.trace_id == batch.context.trace_id
    assert job.id == enqueued.attributes["embedfleet.job"] == batch.attributes["embedfleet.job"]
    assert "done" == batch.attributes["embedfleet.outcome"]
    begin = batch.start_time
    for stage in ("claim", "embed", "commit"):
        span = found[f"embedfleet.{stage}"]
        assert batch.context.span_id == span.parent.span_id
        assert begin == span.start_time <= span.end_time <= batch.end_time + 10
        begin = span.end_time
    assert not any(
        WORDS in span.to_json() or "secret-key" in span.to_json() for span in found.values()
    )


def test_the_context_is_in_the_rows_and_a_part_of_a_batch_keeps_it(traced, worker, spans, watched):
    docs = traced.collection("docs", model="fake/16")
    docs.enqueue([*documents(3), ef.Document("bad", "poison")])
    contexts = {context for (context,) in ask(traced, "SELECT traceparent FROM embedfleet.job")}
    assert 1 == len(contexts)
    assert None not in contexts
    drain(worker(fake_faults="poison=poison"))
    assert contexts == {
        context for (context,) in ask(traced, "SELECT traceparent FROM embedfleet.batch")
    }
    (trace_id,) = {span.context.trace_id for span in spans.get_finished_spans()}
    failed = [
        span
        for span in spans.get_finished_spans()
        if span.attributes.get("embedfleet.outcome") == "fail"
    ]
    assert [trace.StatusCode.ERROR] == [span.status.status_code for span in failed]
    assert f"{trace_id:032x}" == contexts.pop().split("-")[1]


def test_a_call_that_fails_ends_its_span_and_says_only_what_kind_of_error(traced, spans):
    def broken():
        yield ef.Document("a", "words")
        raise ValueError(WORDS)

    docs = traced.collection("docs", model="fake/16")
    with pytest.raises(ValueError, match=WORDS):
        docs.enqueue(broken())
    (span,) = spans.get_finished_spans()
    assert (trace.StatusCode.ERROR, "ValueError") == (
        span.status.status_code,
        span.status.description,
    )
    assert WORDS not in span.to_json()


def test_without_the_setting_there_is_no_span_and_no_context(fleet, worker, spans):
    fleet.collection("docs", model="fake/16").enqueue(documents(1))
    drain(worker())
    assert () == spans.get_finished_spans()
    assert [(None,)] == ask(fleet, "SELECT traceparent FROM embedfleet.job")


def test_without_a_provider_nothing_is_stored(fleet):
    with Fleet(fleet.settings.model_copy(update={"tracing": True})) as traced:
        traced.collection("docs", model="fake/16").enqueue(documents(1))
    assert [(None,)] == ask(fleet, "SELECT traceparent FROM embedfleet.job")


def test_what_is_no_context_is_refused(docs, fleet):
    docs.enqueue(documents(1))
    for wrong in ("", "00-abc", f"00-{'g' * 32}-{'0' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-01\nx"):
        with pytest.raises(psycopg.errors.CheckViolation):
            ask(fleet, "UPDATE embedfleet.job SET traceparent = %s", wrong)
    ask(fleet, f"UPDATE embedfleet.job SET traceparent = '00-{'a' * 32}-{'b' * 16}-01'")


def test_a_batch_with_what_is_no_context_is_embedded_and_begins_a_trace_of_its_own(
    docs, fleet, worker, spans, watched
):
    docs.enqueue(documents(1))
    ask(fleet, "UPDATE embedfleet.batch SET traceparent = 'nonsense'")
    assert ["done"] == drain(worker())
    (batch,) = (each for each in spans.get_finished_spans() if each.name == "embedfleet.batch")
    assert batch.parent is None


class Collector(ThreadingHTTPServer):
    """An OTLP receiver."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = next(
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.server.spans += [(service, span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_process_sends_the_spans_of_its_batches(
    traced, worker_process, spans, collector, pool
):
    host, port = collector.server_address
    worker_process(
        pool=pool,
        tracing="true",
        variables={
            "PYTHONUNBUFFERED": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{host}:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        },
    )
    traced.collection("docs", model="fake/16").enqueue([ef.Document("secret-key", WORDS)])
    eventually(lambda: any(span.name == "embedfleet.batch" for _, span in collector.spans))
    (enqueued,) = spans.get_finished_spans()
    service, batch = next(each for each in collector.spans if each[1].name == "embedfleet.batch")
    assert "embedfleet-worker" == service
    assert f"{enqueued.context.trace_id:032x}" == batch.trace_id.hex()
    assert f"{enqueued.context.span_id:016x}" == batch.parent_span_id.hex()
    for _, span in collector.spans:
        assert WORDS not in str(span)
        assert "secret-key" not in str(span)


def test_who_uses_the_library_keeps_the_provider_of_his_program(traced, spans):
    before = trace.get_tracer_provider()
    traced.collection("docs", model="fake/16").enqueue(documents(1))
    assert before is trace.get_tracer_provider()
    assert tracing.NAME == "embedfleet"
