"""The metrics that the worker processes of a host serve together at one port."""

import os
import signal
import socket

import psutil
import pytest

from plugins.expositions import Values, scrape, values
from plugins.fleets import documents
from plugins.worker_processes import eventually

# A process of its own: the client of Prometheus is imported once, with or without its files.
ALONE = {"PYTHONUNBUFFERED": "1"}


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def found_at(port: int) -> Values:
    return values(scrape(port))


def test_a_forked_pool_and_a_worker_beside_it_share_one_port_and_outlive_the_one_that_serves(
    fleet, worker_process, port
):
    docs = fleet.collection("docs", model="fake/16")
    first = worker_process(pool="prefork", slots=2, variables=ALONE, metrics_port=str(port))
    processes = ("embedfleet_worker_processes", ("cpu",))
    eventually(lambda: found_at(port).get(processes) == 2)
    second = worker_process(pool="threads", variables=ALONE, metrics_port=str(port))
    eventually(lambda: found_at(port).get(processes) == 3)

    docs.enqueue(documents(30), lane="bulk")
    chunks = ("embedfleet_worker_chunks_total", ("cpu", "bulk", "fake/16"))
    eventually(lambda: found_at(port).get(chunks) == 30)
    found = found_at(port)
    batches = found["embedfleet_worker_batches_total", ("cpu", "bulk", "fake/16", "done")]
    for stage in ("claim", "embed", "commit"):
        assert batches == found["embedfleet_worker_batch_seconds_count", ("cpu", stage)]
    assert batches == found["embedfleet_worker_searchable_seconds_count", ("cpu", "bulk")]

    # Whoever served is gone, with its children's gauges; what they counted is not.
    first.kill()
    eventually(lambda: found_at(port).get(processes) == 1)
    assert 30 == found_at(port)[chunks]
    docs.enqueue(documents(5, word="later"), lane="bulk")
    eventually(lambda: found_at(port).get(chunks) == 35)
    second.end()
    assert "" == scrape(port)


def test_a_child_that_is_killed_is_replaced_and_counted_once(fleet, worker_process, port):
    worker = worker_process(pool="prefork", slots=1, variables=ALONE, metrics_port=str(port))
    processes = ("embedfleet_worker_processes", ("cpu",))
    eventually(lambda: found_at(port).get(processes) == 1)
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(5), lane="bulk")
    chunks = ("embedfleet_worker_chunks_total", ("cpu", "bulk", "fake/16"))
    eventually(lambda: found_at(port).get(chunks) == 5)
    (child,) = psutil.Process(worker.pid).children()
    os.kill(child.pid, signal.SIGKILL)
    eventually(
        lambda: (
            (children := psutil.Process(worker.pid).children())
            and children[0].pid != child.pid
            and found_at(port).get(processes) == 1
        )
    )
    docs.enqueue(documents(5, word="later"), lane="bulk")
    eventually(lambda: found_at(port).get(chunks) == 10)


def test_without_the_setting_nobody_listens(fleet, worker_process):
    worker = worker_process()
    eventually(lambda: "ready." in worker.log.read_text())
    listening = psutil.Process(worker.pid).net_connections("inet")
    assert [] == [each for each in listening if each.status == psutil.CONN_LISTEN]
