"""The metrics of one worker process: they listen to its signals, and the pipeline knows of none.

Times and counts are kept in memory, and written twice a second to the files that the host's page is
made of: to write each at once would cost a small batch a percent of its time.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from embedfleet_schema.metrics import WORKER_METRICS, Metric
from embedfleet_workers import signals
from embedfleet_workers.pipeline import BatchStats, Outcome

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

# A page that is made in between is so old at the most.
WRITE_S = 0.5

_Labels = tuple[str, ...]
_BUCKETS = {metric.name: metric.buckets for metric in WORKER_METRICS}


class _Observed:
    """What a histogram is to be told at once."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, histogram: Histogram) -> None:
        """As so many calls of its `observe`, which has no other form, would do."""
        for bucket, count in zip(histogram._buckets, self._counts, strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        histogram._sum.inc(self._sum)  # noqa: SLF001


class Instruments(threading.Thread):
    """Counts what happens in this process until it is stopped.

    Make it in the process that embeds, after a fork.
    """

    def __init__(self, queues: tuple[str, ...], device: str) -> None:
        super().__init__(name="embedfleet-metrics", daemon=True)
        self._made = {metric.name: _make(metric) for metric in WORKER_METRICS}
        self._queues = queues
        self._device = device
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, _Labels], float] = defaultdict(float)
        self._observed: dict[tuple[str, _Labels], _Observed] = {}
        self._passes = 0
        self._busy_since = 0.0
        self._stopping = threading.Event()
        self._connected: tuple[tuple[signals.Signal[Any], Callable[[Any], None]], ...] = (
            (signals.batch_ended, self._note_batch),
            (signals.model_changed, self._note_model),
            (signals.pass_began, self._begin_pass),
            (signals.pass_ended, self._end_pass),
            (signals.request_admitted, self._note_admission),
            (signals.request_answered, self._note_answer),
        )

    def start(self) -> None:
        for signal, receiver in self._connected:
            signal.connect(receiver)
        processes: Gauge = self._made["embedfleet_worker_processes"]
        for queue in self._queues:
            processes.labels(queue).set(1)
        super().start()

    def stop(self) -> None:
        """Write the rest, and listen no more."""
        for signal, receiver in self._connected:
            signal.disconnect(receiver)
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        self.write()

    def run(self) -> None:
        while not self._stopping.wait(WRITE_S):
            self.write()

    def write(self) -> None:
        """Add what happened since the last time to the metrics."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(float)
            observed, self._observed = self._observed, {}
            if self._passes:
                # A model that never rests ends no pass alone.
                self._count_busy(counts)
        for (name, labels), amount in counts.items():
            counter: Counter = self._made[name]
            counter.labels(*labels).inc(amount)
        for (name, labels), many in observed.items():
            histogram: Histogram = self._made[name]
            many.add_to(histogram.labels(*labels))

    def _note_batch(self, stats: BatchStats) -> None:
        queue, lane, space = stats.queue, stats.lane, stats.space
        work = (queue, lane, space)
        took_s = stats.claim_s + stats.embed_s + stats.commit_s
        with self._lock:
            self._counts["embedfleet_worker_batches_total", (*work, stats.outcome.value)] += 1
            for stage in ("claim", "embed", "commit"):
                seconds = getattr(stats, f"{stage}_s")
                self._observe("embedfleet_worker_batch_seconds", (queue, stage), seconds)
            if stats.outcome is Outcome.DONE:
                self._counts["embedfleet_worker_chunks_total", work] += stats.texts
                self._counts["embedfleet_worker_tokens_total", work] += stats.tokens
                name = "embedfleet_worker_searchable_seconds"
                self._observe(name, (queue, lane), stats.waited_s + took_s)

    def _observe(self, name: str, labels: _Labels, seconds: float) -> None:
        key = (name, labels)
        if (many := self._observed.get(key)) is None:
            many = self._observed[key] = _Observed(_BUCKETS[name])
        many.observe(seconds)

    def _note_model(self, model: signals.LoadedModel) -> None:
        labels = (model.space, model.engine, model.precision, model.device)
        gauge: Gauge = self._made["embedfleet_worker_model_processes"]
        gauge.labels(*labels).set(1 if model.is_loaded else 0)

    def _begin_pass(self, _: None) -> None:
        with self._lock:
            if not self._passes:
                self._busy_since = time.monotonic()
            self._passes += 1

    def _end_pass(self, ended: signals.ModelPass) -> None:
        with self._lock:
            # One that began before this was told of any.
            if self._passes:
                self._count_busy(self._counts)
                self._passes -= 1
            if ended.tokens:
                name = "embedfleet_worker_model_tokens_total"
                self._counts[name, (ended.space, "text")] += ended.tokens
                self._counts[name, (ended.space, "padding")] += ended.padding

    def _count_busy(self, counts: defaultdict[tuple[str, _Labels], float]) -> None:
        now = time.monotonic()
        name = "embedfleet_worker_device_busy_seconds_total"
        counts[name, (self._device,)] += now - self._busy_since
        self._busy_since = now

    def _note_admission(self, admitted: signals.Admitted) -> None:
        with self._lock:
            labels = (admitted.limit, admitted.lane)
            name = "embedfleet_worker_limiter_wait_seconds"
            self._observe(name, labels, admitted.waited_s)

    def _note_answer(self, answered: signals.Answered) -> None:
        with self._lock:
            labels = (answered.limit, answered.result)
            self._counts["embedfleet_worker_requests_total", labels] += 1


def _make(metric: Metric) -> Any:  # noqa: ANN401 - one of three classes
    """The metric in a registry of nobody's: the host's page is made of the files."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    nobodys = CollectorRegistry()
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=nobodys)
    if metric.kind == "gauge":
        return Gauge(
            metric.name, metric.help, metric.labels, registry=nobodys, multiprocess_mode="livesum"
        )
    return Histogram(
        metric.name, metric.help, metric.labels, registry=nobodys, buckets=metric.buckets
    )
