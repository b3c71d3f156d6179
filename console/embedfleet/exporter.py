"""What only the database and Redis know of a fleet, as metrics for Prometheus.

One look serves all who ask within a few seconds, so that ten scrapers cost no more than one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError, ExtraMissing, UsageError
from embedfleet_schema.metrics import EXPORTER_METRICS
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import monitoring
from embedfleet_schema.store.monitoring import Sample

if TYPE_CHECKING:
    import prometheus_client
    from prometheus_client import CollectorRegistry

    from embedfleet_workers.rate_limits.stores.limit_store import Snapshot

log = logging.getLogger(__name__)

CACHE_S = 5.0
# Redis answers at once, or the page goes without its limits.
REDIS_S = 3.0


class Exporter:
    """A collector for Prometheus' client. Threads may ask at once; one of them looks."""

    def __init__(self, settings: Settings, *, cache_s: float = CACHE_S) -> None:
        self._db = Database(settings.database, max_connections=1)
        self._redis_url = settings.redis
        self._cache_s = cache_s
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._samples: list[Sample] = []
        self._was_up = {"database": True, "redis": True}

    def collect(self) -> Iterator[prometheus_client.Metric]:
        from prometheus_client.core import Metric as Family

        by_metric: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples():
            by_metric[sample.metric].append(sample)
        for metric in EXPORTER_METRICS:
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
            for sample in by_metric[metric.name]:
                labels = dict(zip(metric.labels, sample.labels, strict=True))
                family.add_sample(metric.name, labels, sample.value)
            yield family

    def samples(self) -> list[Sample]:
        """What was found within the last seconds, or is found now."""
        with self._lock:
            now = time.monotonic()
            if self._looked_at is None or now >= self._looked_at + self._cache_s:
                self._samples = self._look()
                self._looked_at = time.monotonic()
            return self._samples

    def close(self) -> None:
        self._db.close()

    def _look(self) -> list[Sample]:
        began = time.monotonic()
        try:
            found = monitoring.samples(self._db)
        except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
            found = []
            self._note("database", error)
        else:
            self._note("database", None)
        try:
            limits = list(_limit_samples(asyncio.run(self._snapshots())))
        except (EmbedfleetError, OSError, TimeoutError) as error:
            limits = []
            self._note("redis", error)
        else:
            self._note("redis", None)
        up = [Sample(f"embedfleet_{name}_up", (), is_up) for name, is_up in self._was_up.items()]
        took_s = time.monotonic() - began
        return [*up, Sample("embedfleet_exporter_query_seconds", (), took_s), *found, *limits]

    def _note(self, server: str, error: Exception | None) -> None:
        if error is not None and self._was_up[server]:
            log.warning("the %s does not answer: %s", server, type(error).__name__)
        elif error is None and not self._was_up[server]:
            log.info("the %s answers again", server)
        self._was_up[server] = error is None

    async def _snapshots(self) -> list[tuple[str, Snapshot]]:
        """Without accounts: keys of one model that draw on limits of their own count as one."""
        from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

        store = RedisStore(self._redis_url)
        try:
            async with asyncio.timeout(REDIS_S):
                keys = await store.keys()
                found = [(f"{key.provider}/{key.group}", await store.snapshot(key)) for key in keys]
        finally:
            await store.close()
        return [(limit, snapshot) for limit, snapshot in found if snapshot is not None]


@contextmanager
def serving(settings: Settings, host: str, port: int) -> Iterator[None]:
    """Serve the page inside the block.

    Raises:
        ExtraMissing: Prometheus' client is not installed.
        UsageError: the port is taken, or not for this user.
    """
    with _registry(settings) as registry:
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            reason = f"cannot serve at {host}:{port} ({error.strerror}): choose another --port"
            raise UsageError(reason=reason) from None
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def page(settings: Settings) -> str:
    """What is served, once.

    Raises:
        ExtraMissing: Prometheus' client is not installed.
    """
    with _registry(settings) as registry:
        from prometheus_client import generate_latest

        return generate_latest(registry).decode()


def samples(settings: Settings) -> list[Sample]:
    """The same as values; Prometheus' client is not needed for that."""
    exporter = Exporter(settings)
    try:
        return exporter.samples()
    finally:
        exporter.close()


@contextmanager
def _registry(settings: Settings) -> Iterator[CollectorRegistry]:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise ExtraMissing(feature="embedfleet exporter", extra="metrics") from error
    exporter = Exporter(settings)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    try:
        yield registry
    finally:
        exporter.close()


def _limit_samples(found: Iterable[tuple[str, Snapshot]]) -> Iterator[Sample]:
    """Of keys of one limit, the sum of what is under way and the most of the rest."""
    merged: dict[tuple[str, tuple[str, ...]], float] = {}
    for limit, state in found:
        for name, labels, value, adds in _of_limit(limit, state):
            before = merged.get((name, labels), 0.0)
            merged[name, labels] = before + value if adds else max(before, value)
    for (name, labels), value in merged.items():
        yield Sample(name, labels, value)


def _of_limit(limit: str, state: Snapshot) -> Iterator[tuple[str, tuple[str, ...], float, bool]]:
    for dimension, each in state.dimensions.items():
        if each.effective:
            yield "embedfleet_limit_per_minute", (limit, dimension), each.effective, True
        yield "embedfleet_limit_used_per_minute", (limit, dimension), each.used, True
    yield "embedfleet_limit_waiting", (limit,), state.waiting, True
    yield "embedfleet_limit_in_flight", (limit,), state.in_flight, True
    yield "embedfleet_limit_paused_seconds", (limit,), max(0.0, state.paused_s), False
    yield "embedfleet_limit_stopped", (limit,), float(state.stopped is not None), False
