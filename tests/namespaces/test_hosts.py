"""A fleet of four hosts: scaled up and down by the manifest's query, with one host cut off.

docs/operations.md has the figures: `make test-hosts ARGS='-m nightly -rP'`.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from embedfleet.fleet import Fleet
from embedfleet_schema.migrate import migrate
from embedfleet_schema.settings import load_settings
from plugins import fenced_writes, invariants
from plugins.autoscaling import Autoscaler
from plugins.failpoints import alive, documents, repeated, report
from plugins.fleets import ask
from plugins.hosts import HostWorker, network, servers
from plugins.manifests import only, rendered
from plugins.worker_processes import eventually

__all__ = ["report"]

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(1_800)]

MOST = 6
LATENCY_S = 0.25
# Manifests are made for loads of hours.
PACE = 20.0
HELD = """
SELECT b.id, b.attempt FROM embedfleet.batch AS b JOIN embedfleet.worker AS w ON w.id = b.owner
WHERE b.state = 'leased' AND w.pid = ANY (%s)
"""
HELD_STILL = """
SELECT count(*) FROM embedfleet.batch AS b
JOIN unnest(%s::bigint[], %s::int[]) AS held (id, attempt) USING (id, attempt)
WHERE b.state = 'leased' AND b.lease_until > now()
"""
DONE_BY = """
SELECT coalesce(sum(batches), 0)::int FROM embedfleet.worker WHERE pid = ANY (%s)
"""


@dataclass(frozen=True)
class Form:
    """`notice_s` is how long a connection takes to notice, None as it is by default."""

    chunks: int
    cut_s: float
    lease_s: float
    notice_s: float | None


SHORT = Form(chunks=5_000, cut_s=20, lease_s=8, notice_s=10)
LONG = Form(chunks=16_000, cut_s=60, lease_s=20, notice_s=None)


@pytest.fixture
def hosts():
    with network(4) as net:
        yield net


@pytest.fixture
def endpoints(hosts):
    with servers(hosts, hosts.hosts[0]) as endpoints:
        yield endpoints


@pytest.fixture
def fleet(endpoints) -> Iterator[Fleet]:
    """Of this process, which has a cable of its own."""
    migrate(endpoints.database_url)
    settings = load_settings(
        database_url=endpoints.database_url,
        redis_url=endpoints.redis_url,
        batch_tokens_cpu=64,
        lease_seconds=20.0,
        heartbeat_seconds=2.0,
    )
    with Fleet(settings) as fleet:
        yield fleet


@pytest.fixture
def start(hosts, endpoints, tmp_path):
    """Starts workers on the hosts in turn; all are gone at the end."""
    turn = itertools.cycle(hosts.hosts[1:])
    numbers = itertools.count()
    with ExitStack() as started:

        def start(form: Form) -> HostWorker:
            url = endpoints.database_url
            if form.notice_s is not None:
                url += "&" + urlencode({"tcp_user_timeout": round(form.notice_s * 1e3)})
            settings = {
                "database_url": url,
                "redis_url": endpoints.redis_url,
                "lease_seconds": str(form.lease_s),
                "heartbeat_seconds": str(form.lease_s / 5),
                "sweep_seconds": "1",
                "fake_faults": f"latency={LATENCY_S}",
            }
            worker = HostWorker(next(turn), tmp_path / f"worker-{next(numbers)}.log", settings)
            started.callback(worker.kill)
            return worker

        yield start


def grace_s() -> float:
    pod = only(rendered("scaled/cpu"), "Deployment")["spec"]["template"]["spec"]
    return float(pod["terminationGracePeriodSeconds"])


@pytest.mark.parametrize(
    "form", [SHORT, pytest.param(LONG, marks=pytest.mark.nightly)], ids=["short", "long"]
)
def test_a_fleet_grows_loses_a_host_and_shrinks_and_nothing_is_lost(
    fleet, hosts, start, report, form
):
    fenced_writes.watch(fleet)
    docs = fleet.collection("docs", model="fake/16")

    def seconds(query: str) -> float:
        ((value,),) = ask(fleet, query.replace("%", "%%"))
        return value

    def now_alive() -> int:
        return len(alive(fleet))

    scaler = Autoscaler("cpu", seconds, lambda: start(form), pace=PACE, least=1, most=MOST)
    scaler.run(lambda: now_alive() == 1, timeout_s=600)
    job = docs.enqueue(documents(form.chunks))
    up_s = scaler.run(lambda: now_alive() == MOST, timeout_s=600)

    lost = hosts.hosts[-1]
    there = [worker for worker in scaler.workers if worker.host is lost]
    pids = [worker.pid for worker in there]
    assert len(there) == MOST / 3
    eventually(lambda: len(ask(fleet, HELD, pids)) == len(there))
    hosts.cut(lost)
    cut_at = time.monotonic()
    held = list(zip(*ask(fleet, HELD, pids), strict=True))

    def claimed_again() -> bool:
        return ask(fleet, HELD_STILL, *map(list, held)) == [(0,)]

    again_s = scaler.run(claimed_again, timeout_s=600)
    scaler.run(lambda: time.monotonic() > cut_at + form.cut_s, timeout_s=600)
    noticed = ["heartbeat failed" in worker.log.read_text() for worker in there]
    before = ask(fleet, DONE_BY, pids)
    assert not job.status.finished, "too little work: the host is back too late"
    hosts.mend(lost)
    back_s = scaler.run(lambda: ask(fleet, DONE_BY, pids) > before, timeout_s=600)

    scaler.run(lambda: job.status.finished, timeout_s=600)
    down_s = scaler.run(lambda: len(scaler.workers) == 1, timeout_s=600)
    drained_s = [worker.left_after_s(grace_s()) for worker in scaler.left]
    eventually(lambda: now_alive() == 1)
    report(
        scaled_up_s=up_s,
        most_seconds_of_work=max(scaler.asked),
        claimed_again_s=again_s,
        back_after_s=back_s,
        embedded_again=repeated(fleet),
        scaled_down_s=down_s,
        longest_drain_s=max(drained_s),
    )
    status = job.status
    assert (form.chunks, 0) == (status.embedded, status.failed)
    assert [True] * len(there) == noticed
    assert MOST - 1 <= len(scaler.left)
    # What the lost host held is embedded again, and what it may have claimed as it was cut.
    assert repeated(fleet) <= 2 * len(there)
    found = docs.audit()
    assert (form.chunks, form.chunks, 0, 0) == (
        *(found.texts, found.stored),
        *(found.missing, found.extra),
    )
    quiet_at = invariants.make_quiet(fleet)
    assert [] == fenced_writes.unfenced(fleet)
    invariants.check(fleet, quiet_at)
