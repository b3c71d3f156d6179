"""Each panel and each alert, held against the metrics of a fleet that really runs."""

import signal
import socket
import subprocess
import sys

import promql_parser
import pytest

import embedfleet as ef
from embedfleet_schema.metrics import EXPORTER_METRICS, METRICS, WORKER_METRICS
from plugins.documents import ROOT
from plugins.expositions import LABELS, scrape, values
from plugins.fleets import ask
from plugins.worker_processes import eventually

sys.path.insert(0, str(ROOT / "docs"))
from monitoring_alerts import ALERTS
from monitoring_panels import ROWS

EXPRESSIONS = {alert.name: alert.expr for alert in ALERTS} | {
    f"{panel.title}: {legend}": expr
    for row in ROWS.values()
    for panel in row
    for legend, expr in panel.queries.items()
}
POISON = "poison pill"
ALONE = {"PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def exporter(fleet):
    """`embedfleet exporter`, as a process."""
    port = free_port()
    command = [sys.executable, "-m", "embedfleet", "exporter", "--port", str(port), "--json"]
    variables = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    process = subprocess.Popen(
        command,
        env={"PATH": "/usr/bin:/bin", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert f'"port": {port}' in process.stdout.readline()
    yield port
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert 0 == process.returncode
    assert said.startswith(f"metrics: http://127.0.0.1:{port}/metrics\n")


@pytest.mark.torch
@pytest.mark.timeout(600)
def test_each_panel_and_each_alert_asks_for_what_a_running_fleet_exposes(
    fleet, articles, api_fleet, worker_process, exporter
):
    api = api_fleet()
    api.tell_limits(requests=60_000, tokens=60_000_000)
    port = free_port()
    worker_process(variables=ALONE, slots=2, metrics_port=str(port), fake_faults=f"poison={POISON}")
    worker_process(slots=2, metrics_port=str(port), **api.variables(), variables=ALONE)

    local = fleet.collection("local", model="local/all-MiniLM-L6-v2")
    local.enqueue([ef.Document("a", "One text."), ef.Document("b", "Another, of more words.")])
    faulty = fleet.collection("faulty", model="fake/16")
    faulty.enqueue([ef.Document("bad", POISON), ef.Document("good", "words")])
    api.enqueue(8)
    assert articles.name in {each.name for each in fleet.collections()}
    for job in fleet.jobs():
        job.wait(timeout_s=300)
    ask(
        fleet,
        "UPDATE embedfleet.space SET paused_at = now(), pause_code = 'key_invalid'"
        " WHERE provider = 'fake'",
    )

    def exposed() -> set[str]:
        """What the two pages hold, as Prometheus would name it."""
        text = scrape(port) + scrape(exporter)
        return {
            line.partition("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"
        }

    wanted = {name for metric in METRICS for name in metric.series}
    eventually(lambda: wanted <= exposed())
    for title, expr in EXPRESSIONS.items():
        promql_parser.parse(expr)
        asked = {name for name in LABELS if name in expr}
        assert asked <= exposed(), title
    # Each label of the list is there, and no other: `values` looks them up.
    workers, all_of_it = values(scrape(port)), values(scrape(exporter))
    assert {name for name, _ in workers} <= {n for each in WORKER_METRICS for n in each.series}
    assert {name for name, _ in all_of_it} <= {n for each in EXPORTER_METRICS for n in each.series}
    padding = {
        kind: workers["embedfleet_worker_model_tokens_total", ("local/all-MiniLM-L6-v2", kind)]
        for kind in ("text", "padding")
    }
    assert padding["text"] > padding["padding"] >= 0
    answered = workers["embedfleet_worker_requests_total", ("openai/bench-model", "answered")]
    assert answered > 0
