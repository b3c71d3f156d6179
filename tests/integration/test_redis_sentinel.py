"""Sentinels: who opens Redis asks them for the master, and follows it when it changes."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet.stack.ports import candidates
from embedfleet.stack.wheels import valkey_program
from embedfleet_schema.settings import load_settings
from embedfleet_workers.rate_limits.stores.limit_store import Reservation
from plugins.limiter_reservations import reserve
from plugins.worker_processes import eventually

SERVER = """\
bind 127.0.0.1
port {port}
save ""
requirepass of-the-server
masterauth of-the-server
repl-diskless-sync-delay 0
"""
SENTINEL = """\
bind 127.0.0.1
port {port}
requirepass of-the-sentinel
sentinel monitor fleet 127.0.0.1 {master} 1
sentinel auth-pass fleet of-the-server
sentinel down-after-milliseconds fleet 2000
"""


@dataclass(frozen=True)
class Trio:
    """A master, its replica, and the sentinel that watches them."""

    master: int
    replica: int
    sentinel: int

    @property
    def url(self) -> str:
        return (
            f"sentinel://:of-the-server@127.0.0.1:1,127.0.0.1:{self.sentinel}/0"
            "?master_name=fleet&sentinel_password=of-the-sentinel"
        )

    def ask(self, port: int, *words: str) -> object:
        password = "of-the-sentinel" if port == self.sentinel else "of-the-server"
        with redis.Redis(port=port, password=password, decode_responses=True) as client:
            try:
                return client.execute_command(*words)
            except redis.ConnectionError:
                return None

    def serving(self) -> int:
        _, port = self.ask(self.sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fleet")  # type: ignore[misc]
        return int(port)

    def knows_the_replica(self) -> bool:
        found = self.ask(self.sentinel, "SENTINEL", "REPLICAS", "fleet")
        return "'ok'" in str(found)


@contextmanager
def server(folder: Path, configuration: str, *words: str) -> Iterator[None]:
    folder.mkdir()
    (folder / "server.conf").write_text(f"{configuration}dir {folder}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [valkey_program(), folder / "server.conf", *words], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    trio = Trio(*(next(candidates(None)) for _ in range(3)))
    follows = f"replicaof 127.0.0.1 {trio.master}\n"
    watches = SENTINEL.format(port=trio.sentinel, master=trio.master)
    with ExitStack() as running:
        running.enter_context(server(tmp_path / "master", SERVER.format(port=trio.master)))
        eventually(lambda: trio.ask(trio.master, "PING"))
        running.enter_context(
            server(tmp_path / "replica", SERVER.format(port=trio.replica) + follows)
        )
        eventually(lambda: "'master_link_status': 'up'" in str(trio.ask(trio.replica, "INFO")))
        running.enter_context(server(tmp_path / "sentinel", watches, "--sentinel"))
        eventually(lambda: trio.ask(trio.sentinel, "PING"))
        eventually(trio.knows_the_replica)
        yield trio


@pytest.fixture
def fleet(migrated_url: str, trio: Trio) -> Iterator[Fleet]:
    settings = load_settings(database_url=migrated_url, redis_url=trio.url, batch_tokens_cpu=64)
    with Fleet(settings) as fleet:
        yield fleet


def documents(count: int, prefix: str) -> list[ef.Document]:
    return [ef.Document(f"{prefix}{n}", f"text {n} of {prefix}") for n in range(count)]


@pytest.mark.usefixtures("patient")
def test_everybody_finds_the_master_and_follows_it(
    trio, fleet, worker_process, command, monkeypatch
):
    worker = worker_process()
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(50, "a"))
    assert job.enqueued.rung
    assert 50 == job.wait(timeout_s=60).embedded
    eventually(lambda: "Task embedfleet.embed" in worker.log.read_text())
    assert "of-the-" not in worker.log.read_text()
    assert isinstance(reserve(trio.url), Reservation)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", trio.url)
    assert "Valkey" in command("doctor").out

    assert "OK" == trio.ask(trio.sentinel, "SENTINEL", "FAILOVER", "fleet")
    eventually(lambda: trio.serving() == trio.replica)
    eventually(lambda: "'role': 'slave'" in str(trio.ask(trio.master, "INFO")))
    heard = worker.log.read_text().count("Task embedfleet.embed")
    with Fleet(fleet.settings) as again:
        job = again.collection("docs").enqueue(documents(50, "b"))
        assert job.enqueued.rung
        assert 50 == job.wait(timeout_s=60).embedded
    eventually(lambda: worker.log.read_text().count("Task embedfleet.embed") > heard)
    assert isinstance(reserve(trio.url), Reservation)
    assert worker.process.poll() is None
