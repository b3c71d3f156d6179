"""What watches one worker process, as its settings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.settings import Settings
from embedfleet_workers import signals
from embedfleet_workers.monitoring.metrics_folder import MetricsFolder

if TYPE_CHECKING:
    from embedfleet_workers.monitoring.instruments import Instruments
    from embedfleet_workers.monitoring.page import MetricsPage
    from embedfleet_workers.pipeline import BatchStats


class Monitoring:
    """Metrics and traces of a worker. Make it in its main process, before children are forked.

    Raises:
        ExtraMissing: a setting asks for packages that are not installed.
        WorkerStartFailed: the folder of the metrics is somebody else's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder: MetricsFolder | None = None
        self._instruments: Instruments | None = None
        self._page: MetricsPage | None = None
        self._note_span: Callable[[BatchStats], None] | None = None
        if settings.metrics_port is not None:
            self._folder = MetricsFolder(settings.metrics_port)
            self._folder.choose()
            check_client()
        if settings.tracing:
            from embedfleet_schema.tracing import tracer

            tracer()

    def is_child(self) -> None:
        """In the child of a pool, which serves no page: that stays with its parent."""
        if self._page is not None:
            self._page.close()
            self._page = None

    def serve(self) -> None:
        """Once for each worker, in its main process: have the host's page served."""
        if self._folder is not None and self._settings.metrics_port is not None:
            from embedfleet_workers.monitoring.page import MetricsPage

            self._page = MetricsPage(
                self._folder, self._settings.metrics_host, self._settings.metrics_port
            )
            self._page.start()

    def watch(self, queues: tuple[str, ...], device: str) -> None:
        """In each process that embeds."""
        if self._folder is not None:
            from embedfleet_workers.monitoring.instruments import Instruments

            self._folder.enter()
            self._instruments = Instruments(queues, device)
            self._instruments.start()
        if self._settings.tracing:
            from embedfleet_schema.tracing import send_spans
            from embedfleet_workers.monitoring.spans import batch_spans

            send_spans("embedfleet-worker")
            self._note_span = batch_spans()
            signals.batch_ended.connect(self._note_span)

    def stop(self) -> None:
        if self._page is not None:
            self._page.stop()
            self._page = None
        if self._instruments is not None:
            self._instruments.stop()
            self._instruments = None
        if self._folder is not None:
            self._folder.leave()
        if self._note_span is not None:
            from embedfleet_schema.tracing import flush_spans

            signals.batch_ended.disconnect(self._note_span)
            self._note_span = None
            flush_spans()


def check_client() -> None:
    """Raise ExtraMissing where Prometheus' client is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(feature="EMBEDFLEET_METRICS_PORT", extra="metrics") from error
