"""`embedfleet exporter`, and the extras that monitoring needs."""

import socket
import sys

import pytest

from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.settings import load_settings
from embedfleet_workers.monitoring.process import Monitoring


def test_once_prints_the_page_and_serves_nothing(command, handbook):
    told = command("exporter", "--once")
    assert 0 == told.code
    assert f'embedfleet_collection_documents{{collection="{handbook}"}} 0.0\n' in told.out
    assert "# TYPE embedfleet_queue_chunks gauge" in told.out
    expected = {
        "metric": "embedfleet_collection_documents",
        "labels": {"collection": handbook},
        "value": 0.0,
    }
    assert expected in command("exporter", "--once", "--json").json


def test_a_port_that_is_taken_is_said_in_one_line(command):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        told = command("exporter", "--port", port)
    assert 2 == told.code
    assert f"cannot serve at 127.0.0.1:{port} (Address already in use)" in told.err
    assert "choose another --port" in told.err


def test_without_the_extra_one_line_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    told = command("exporter", "--once")
    assert 1 == told.code
    assert "pip install 'embedfleet[metrics]'" in told.err
    settings = load_settings(metrics_port=9_464)
    with pytest.raises(ExtraMissing, match=r"EMBEDFLEET_METRICS_PORT .*embedfleet\[metrics\]"):
        Monitoring(settings)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ExtraMissing, match=r"EMBEDFLEET_TRACING .*embedfleet\[tracing\]"):
        Monitoring(load_settings(tracing=True))


def test_without_the_settings_nothing_is_imported_and_nothing_watched(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monitoring = Monitoring(load_settings())
    monitoring.serve()
    monitoring.watch(("cpu",), "cpu")
    monitoring.stop()
