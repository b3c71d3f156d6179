"""Users of the broker with exactly the rights that docs/security.md grants."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.settings import load_settings
from plugins.brokers import Broker, granted, serving, take_every_step, users
from plugins.failpoints import leased
from plugins.fleets import documents
from plugins.worker_processes import TIMEOUT_S, eventually

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def broker(tmp_path) -> Iterator[Broker]:
    with serving(tmp_path) as broker:
        yield broker


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
