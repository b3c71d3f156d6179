"""TLS to Redis: everybody who opens Redis speaks it from the first byte, and checks who answers."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import redis

from embedfleet.fleet import Fleet
from embedfleet_schema.settings import load_settings
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.stores.limit_store import Reservation
from plugins.command_line import Answer, Command
from plugins.fleets import documents
from plugins.limiter_reservations import reserve
from plugins.worker_processes import WorkerProcess, eventually

pytestmark = pytest.mark.usefixtures("patient")

HANDSHAKE = b"\x16\x03"


@pytest.fixture
def fleet(migrated_url: str) -> Fleet:
    """Used by the fixtures of workers; a test opens it at its own URL."""
    with at(migrated_url, "redis://127.0.0.1:1/0") as fleet:
        yield fleet


def at(database_url: str, redis_url: str) -> Fleet:
    return Fleet(load_settings(database_url=database_url, redis_url=redis_url, batch_tokens_cpu=64))


@dataclass(frozen=True)
class Parties:
    """Whoever opens Redis, at a URL of the test's choice."""

    database_url: str
    start_worker: Callable[..., WorkerProcess]
    run: Command
    monkeypatch: pytest.MonkeyPatch

    def worker(self, url: str) -> WorkerProcess:
        return self.start_worker(variables={"EMBEDFLEET_REDIS_URL": url})

    def doctor(self, url: str) -> Answer:
        self.monkeypatch.setenv("EMBEDFLEET_REDIS_URL", url)
        return self.run("doctor")


@pytest.fixture
def parties(fleet, worker_process, command, monkeypatch) -> Parties:
    return Parties(fleet.settings.database, worker_process, command, monkeypatch)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("options", ["ssl_cert_reqs=CERT_REQUIRED&", "ssl_cert_reqs=required&", ""])
def test_everybody_works_with_redis_behind_tls(
    parties, tls_front, redis_url, authority, scheme, options
):
    safe = f"{tls_front(redis_url, scheme=scheme)}?{options}ssl_ca_certs={authority.file}"
    worker = parties.worker(safe)
    with at(parties.database_url, safe) as ours:
        job = ours.collection("docs", model="fake/16").enqueue(documents(50))
        assert job.enqueued.rung
        assert 50 == job.wait(timeout_s=60).embedded
    eventually(lambda: "Task embedfleet.embed" in worker.log.read_text())
    assert f"Connected to rediss://localhost:{urlsplit(safe).port}/0" in worker.log.read_text()
    assert isinstance(reserve(safe), Reservation)
    assert "Valkey" in parties.doctor(safe).out


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("localhost", "", "certificate verify failed"),
        ("other.example", "?ssl_ca_certs={ca}", "Hostname mismatch"),
        ("other.example", "?ssl_cert_reqs=optional&ssl_ca_certs={ca}", "Hostname mismatch"),
    ],
    ids=["unknown authority", "another name", "another name, optional"],
)
def test_a_server_that_cannot_prove_who_it_is_is_refused_by_all(
    parties, tls_front, redis_url, authority, name, options, reason
):
    unsafe = tls_front(redis_url, name=name) + options.format(ca=authority.file)
    worker = parties.worker(unsafe)
    with at(parties.database_url, unsafe) as ours:
        job = ours.collection("docs", model="fake/16").enqueue(documents(5))
        assert not job.enqueued.rung
    with pytest.raises(StoreAway, match=reason):
        reserve(unsafe)
    assert reason in parties.doctor(unsafe).out
    eventually(lambda: reason in worker.log.read_text())
    with redis.Redis.from_url(redis_url) as client:
        assert [] == client.keys("*")


@pytest.mark.parametrize("options", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE"])
def test_whoever_says_so_checks_nothing(fleet, tls_front, redis_url, options):
    unchecked = f"{tls_front(redis_url, name='other.example')}?{options}"
    with at(fleet.settings.database, unchecked) as ours:
        assert ours.collection("docs", model="fake/16").enqueue(documents(5)).enqueued.rung
    assert isinstance(reserve(unchecked), Reservation)


@pytest.mark.parametrize(
    "written",
    [
        "rediss://:hunter22@localhost:{port}/0",
        "valkeys://:hunter22@localhost:{port}/0?ssl_cert_reqs=none",
        "sentinels://:hunter22@localhost:{port}/0?master_name=m&sentinel_password=hunter22",
    ],
)
@pytest.mark.parametrize("who", ["producer", "limiter", "doctor", "worker"])
def test_the_first_bytes_to_redis_are_a_handshake(parties, listener, written, who):
    url = written.format(port=listener.port)
    if who == "producer":
        with at(parties.database_url, url) as ours:
            assert not ours.collection("docs", model="fake/16").enqueue(documents(1)).enqueued.rung
    elif who == "limiter":
        with pytest.raises(StoreAway):
            reserve(url)
    elif who == "doctor":
        parties.doctor(url)
    else:
        parties.worker(url)
    eventually(lambda: listener.heard)
    for first in listener.heard:
        assert (HANDSHAKE, False) == (first[:2], b"hunter22" in first)
