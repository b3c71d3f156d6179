"""Users of the broker with exactly the rights that docs/security.md grants."""

import asyncio
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet.stack.ports import candidates
from embedfleet.stack.wheels import valkey_program
from embedfleet_schema.settings import load_settings
from embedfleet_workers.rate_limits.quota import LimitKey, Reading
from embedfleet_workers.rate_limits.stores.limit_store import Penalty
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.documents import ROOT, blocks
from plugins.failpoints import leased
from plugins.fleets import documents
from plugins.limiter_reservations import Cost, asked
from plugins.worker_processes import TIMEOUT_S, eventually

pytestmark = pytest.mark.usefixtures("patient")

SECRET = "SECRET"  # noqa: S105 - the page's own word
# Only the test sends these.
OURS = {"acl|log", "config|resetstat", "keys"}
LIMIT = LimitKey("openai", "0123456789abcdef", "text-embedding-3-small")


def users() -> dict[str, list[str]]:
    """The rules of each user, by name, as the page gives them."""
    calls = [
        shlex.split(line)
        for block in blocks(ROOT / "docs/security.md", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith("valkey-cli ACL SETUSER ")
    ]
    return {name: rules for _, _, _, name, *rules in calls}


def granted(user: str) -> set[str]:
    return {rule[1:] for rule in users()[user] if rule.startswith("+")}


@dataclass(frozen=True)
class Broker:
    """A Valkey server with the users of the page."""

    port: int

    def url(self, user: str) -> str:
        return f"redis://{user}:{SECRET}@127.0.0.1:{self.port}/0"

    def client(self, user: str = "default") -> redis.Redis:
        return redis.Redis.from_url(self.url(user))

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def used(self) -> set[str]:
        """The commands that were called since the last time that somebody asked."""
        with self.client() as client:
            calls = client.info("commandstats")
            client.config_resetstat()
        called = {name.removeprefix("cmdstat_") for name, each in calls.items() if each["calls"]}
        return called - {"hello", "auth"} - OURS

    def denied(self) -> list[dict[str, object]]:
        with self.client() as client:
            return client.acl_log()


@pytest.fixture
def broker(tmp_path) -> Iterator[Broker]:
    lines = [f"user {name} {' '.join(rules)}" for name, rules in users().items()]
    acl = tmp_path / "users.acl"
    acl.write_text("\n".join([f"user default on >{SECRET} ~* &* +@all", *lines, ""]))
    port = next(candidates(None))
    options = {"port": port, "bind": "127.0.0.1", "aclfile": acl, "dir": tmp_path, "save": ""}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with (tmp_path / "valkey.log").open("wb") as log:
        server = subprocess.Popen([valkey_program(), *words], stdout=log)
    broker = Broker(port)
    try:
        eventually(broker.answers)
        yield broker
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def fleet(migrated_url: str, broker: Broker) -> Iterator[Fleet]:
    """A producer's fleet."""
    settings = load_settings(
        database_url=migrated_url, redis_url=broker.url("producer"), batch_tokens_cpu=64
    )
    with Fleet(settings) as fleet:
        yield fleet


def test_the_page_names_three_users():
    assert ["producer", "worker", "limiter"] == list(users())


def test_the_limiter_needs_exactly_the_rights_of_the_page(broker):
    broker.used()
    asyncio.run(take_every_step(broker.url("limiter")))
    assert granted("limiter") == broker.used()
    assert [] == broker.denied()


async def take_every_step(url: str) -> None:
    priced, costs = asked({"requests": Cost(1.0, quota=600.0)}), {"requests": 1.0}
    # What is older than a minute is cleared away.
    before = RedisStore(url, clock=lambda: time.time() - 100.0)
    await before.reserve(LIMIT, **priced, target=1.0, max_wait_s=60.0)
    await before.close()
    store = RedisStore(url)
    now, later = [
        await store.reserve(LIMIT, **priced, target=1.0, max_wait_s=60.0) for _ in range(2)
    ]
    await store.confirm(LIMIT, later, costs)
    await store.refund(LIMIT, later, costs, sent=False)
    await store.settle(LIMIT, now, costs, Reading({"requests": 600.0}, {"requests": 595.0}))
    await store.penalize(LIMIT, now, costs, Reading(), Penalty(0.01))
    held = await store.acquire(LIMIT, "one", slots=1, lease_s=60.0, wait_s=1.0)
    waiting = asyncio.create_task(store.acquire(LIMIT, "two", slots=1, lease_s=60.0, wait_s=60.0))
    while not (seen := await store.snapshot(LIMIT)) or not seen.waiting:
        await asyncio.sleep(0.01)
    await store.release(LIMIT, "one", slots=1)
    assert held
    assert await waiting
    await store.stop(LIMIT, Stop("INSUFFICIENT_QUOTA", "no money is left"), "a test")
    await store.clock_state(LIMIT)
    await store.resume(LIMIT)
    assert [LIMIT] == await store.keys()
    await store.close()


def test_a_producer_needs_exactly_the_rights_of_the_page(broker, fleet, command):
    docs = fleet.collection("docs", model="fake/16")
    broker.used()
    assert docs.enqueue(documents(100)).enqueued.rung
    assert "Valkey" in command("doctor").out
    assert granted("producer") == broker.used()
    assert [] == broker.denied()


def test_a_worker_needs_exactly_the_rights_of_the_page(
    broker, fleet, worker_process, command, monkeypatch
):
    docs = fleet.collection("docs", model="fake/16")
    as_worker = {"EMBEDFLEET_REDIS_URL": broker.url("worker")}
    job = docs.enqueue(documents(100))
    broker.used()
    killed = worker_process(variables=as_worker, fake_faults="latency=600")
    eventually(lambda: leased(fleet) > 0)
    killed.kill()
    worker = worker_process(variables=as_worker)
    assert 100 == job.wait(timeout_s=60).embedded
    # Its slot is idle now, so that the sweeper rings for it.
    assert 1 == enqueue_unheard(fleet).wait(timeout_s=60).embedded
    assert 0 == worker.end()
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", broker.url("worker"))
    assert "Valkey" in command("doctor").out
    assert granted("worker") == broker.used()
    assert [] == broker.denied()


def enqueue_unheard(fleet: Fleet) -> ef.Job:
    """A document whose producer reaches no broker."""
    nowhere = SecretStr("redis://127.0.0.1:1/0")
    with Fleet(fleet.settings.model_copy(update={"redis_url": nowhere})) as unheard:
        job = unheard.collection("docs").enqueue([ef.Document("unheard", "a text of its own")])
    assert not job.enqueued.rung
    return fleet.job(job.id)


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_a_user_of_the_broker_reaches_nothing_that_belongs_to_others(broker, user):
    with broker.client(user) as client:
        for call in (
            lambda: client.lpush("celery", "a message"),
            lambda: client.get("session:1"),
            lambda: client.publish("news", "a message"),
            client.keys,
            client.scan,
            client.flushall,
            lambda: client.config_get("*"),
            lambda: client.eval("return 1", 0),
        ):
            with pytest.raises(NoPermissionError):
                call()


def test_a_producer_cannot_take_a_ring_away(broker, fleet):
    fleet.collection("docs", model="fake/16").enqueue(documents(1))
    with broker.client("producer") as client:
        assert 1 == client.llen("embedfleet:cpu")
        for call in (
            lambda: client.brpop("embedfleet:cpu", timeout=1),
            lambda: client.lindex("embedfleet:cpu", 0),
            lambda: client.delete("embedfleet:cpu"),
        ):
            with pytest.raises(NoPermissionError):
                call()


def test_what_is_denied_is_named_and_no_document_is_lost(broker, fleet, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    with broker.client() as client:
        client.execute_command("ACL", "SETUSER", "producer", "-lpush")
        client.execute_command("ACL", "SETUSER", "worker", "-brpop")
    job = docs.enqueue(documents(10))
    assert (False, 10) == (job.enqueued.rung, job.status.queued)
    worker = worker_process(variables={"EMBEDFLEET_REDIS_URL": broker.url("worker")})
    assert 0 != worker.process.wait(TIMEOUT_S)
    assert "NoPermissionError" in worker.log.read_text()
    assert {("producer", "lpush"), ("worker", "brpop")} == {
        (entry["username"], entry["object"]) for entry in broker.denied()
    }
