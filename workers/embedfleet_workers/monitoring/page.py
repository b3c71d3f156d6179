"""The page of a host's metrics: one of its worker processes serves it for all of them."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from embedfleet_workers.monitoring.metrics_folder import MetricsFolder

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

log = logging.getLogger(__name__)

# How long the page is away, at the most, after the process that served it has died.
TAKE_OVER_S = 2.0


class MetricsPage(threading.Thread):
    """Serves the page as soon as no other process of the host does."""

    def __init__(self, folder: MetricsFolder, host: str, port: int) -> None:
        super().__init__(name="embedfleet-metrics-page", daemon=True)
        self._folder = folder
        self._address = (host, port)
        self._stopping = threading.Event()
        self._lead: int | None = None
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        self._said = False

    def run(self) -> None:
        while not self._serve() and not self._stopping.wait(TAKE_OVER_S):
            pass

    def stop(self) -> None:
        """Give the page to another process."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            thread.join(timeout=10)
        self.close()

    def close(self) -> None:
        """Give back what it holds in this process; where it was forked, the page goes on."""
        if self._server is not None:
            self._server[0].server_close()
            self._server = None
        if self._lead is not None:
            os.close(self._lead)
            self._lead = None

    def _serve(self) -> bool:
        from prometheus_client import CollectorRegistry, start_http_server

        if self._lead is None and (lead := self._folder.leads()) is not None:
            self._lead = lead
        if self._lead is None:
            return False
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._folder)
        host, port = self._address
        try:
            self._server = start_http_server(port, host, registry)
        except OSError as error:
            if not self._said:
                log.warning("no metrics at %s:%d, trying again: %s", host, port, error.strerror)
                self._said = True
            return False
        log.info("metrics of this host's workers: http://%s:%d/metrics", host, port)
        return True
